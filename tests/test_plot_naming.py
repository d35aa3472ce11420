"""Names in a crowded plot: all of them, apart from each other, and a line where one moved away."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason='pictures need the extra "plot"')

from matplotlib.text import Annotation

from minicnn import plot
from minicnn.errors import ArgumentError
from minicnn.plot.naming import planned

FRAME = np.array([0.0, 0.0, 200.0, 100.0])
TABLE = Path(__file__).parents[1] / "examples" / "results" / "league-table-2026-11-21.json"


def boxes(plan, sizes):
    centers = np.array([plan[i][0] for i in sorted(plan)])
    return np.hstack([centers - sizes[sorted(plan)] / 2, centers + sizes[sorted(plan)] / 2])


def overlapping(found):
    return [
        (one, other)
        for one, other in itertools.combinations(found, 2)
        if (one[:2] < other[2:]).all() and (other[:2] < one[2:]).all()
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_network_of_the_league_table_is_named_in_both_panels(dark):
    picture = plot.zoo_scatter(TABLE, dark=dark)
    names = {spot["model"] for spot in json.loads(TABLE.read_text())["rows"]}
    assert len(names) == 18
    picture.canvas.draw()
    for axes in picture.axes:
        words = [text for text in axes.texts if isinstance(text, Annotation)]
        assert {text.get_text() for text in words} == names
        found = [np.array(text.get_window_extent().extents) for text in words]
        plain = [box for box, text in zip(found, words, strict=True) if text.arrow_patch is None]
        assert overlapping(plain) == []


def test_points_at_one_place_are_all_named():
    places = np.full((14, 2), (190.0, 50.0))  # at the right edge
    sizes = np.full((14, 2), (40.0, 8.0))
    plan = planned(places, sizes, FRAME)
    assert sorted(plan) == list(range(14))
    found = boxes(plan, sizes)
    assert overlapping(found) == []
    assert (found[:, :2] >= FRAME[:2]).all()
    assert (found[:, 2:] <= FRAME[2:]).all()
    assert {has_line for _, has_line in plan.values()} == {False, True}


def test_a_name_that_is_not_at_its_point_has_a_line():
    places = np.array([[100.0, 50.0]] * 9)
    sizes = np.full((9, 2), (40.0, 8.0))
    for center, has_line in planned(places, sizes, FRAME).values():
        gap = np.maximum(np.abs(center - places[0]) - sizes[0] / 2, 0).max()
        assert has_line == (gap > 7)


def test_a_plot_without_room_says_so():
    assert planned(np.array([[100.0, 50.0]]), np.array([[300.0, 8.0]]), FRAME) == {}
    row = {"parameters": 10, "multiply_adds": 10}
    picture = plot.zoo_scatter([{"model": "n" * 400, **row}, {"model": "short", **row}])
    shown = {text.get_text() for text in (*picture.texts, *picture.axes[0].texts)}
    assert "short" in shown
    assert any(text.startswith("no room for ") for text in shown)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("5", "no list of rows"),
        ("[1, 2]", "no list of rows"),
        ('{"rows": 5}', "no list of rows"),
        ('[{"model": "a", "parameters": 1, "multiply_adds": 1, "accuracy": "x"}]', "be numbers"),
        ('[{"model": "a", "parameters": 0, "multiply_adds": 1}]', "0 parameters"),
    ],
)
def test_a_file_that_is_no_table_is_an_error_in_words(text, part, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=part):
        plot.zoo_scatter(path)


def test_networks_that_failed_are_left_out_of_the_plot_of_a_league_table(tmp_path):
    path = tmp_path / "league_table.json"
    good = {"model": "lenet5", "parameters": 10, "multiply_adds": 20, "accuracy": 0.5}
    path.write_text(json.dumps({"rows": [{"model": "nin", "error": "diverged"}, good]}))
    assert plot.zoo_scatter(path).alt.startswith("1 networks")
