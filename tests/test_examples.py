"""The page on fast convolution runs, and stops at a step that computes something else."""

import re
import sys
from pathlib import Path

import pytest

import minicnn
from minicnn.testing.tolerance import CheckError
from minicnn_kernels import registry
from minicnn_kernels.algorithms import is_direct

PAGE = Path(__file__).parents[1] / "examples" / "fast_convolution.py"
STEPS = ["1. loops in Python", "2. im2col, small", "2. im2col", "3. im2col in pieces"]
STEPS += ["4. compiled loops", "5. register tiles", "5. tiles, then ReLU"]
STEPS += ["6. fused with ReLU", "7. fewer products"]

pytestmark = pytest.mark.skipif(
    registry.availability()["numba"] is not None, reason="the last steps are compiled"
)


def run(monkeypatch, text):
    arguments = ["--images", "3", "--channels", "6", "--side", "9", "--seconds", "0"]
    monkeypatch.setattr(sys, "argv", [PAGE.name, *arguments])
    with minicnn.use_backend(registry.selected("cpu")), minicnn.direct_convolution(is_direct()):
        exec(compile(text, str(PAGE), "exec"), {"__name__": "__main__"})


def test_every_step_is_checked_and_measured(monkeypatch, capsys):
    run(monkeypatch, PAGE.read_text())
    lines, table = capsys.readouterr().out.split("\n\n")
    assert [line[:28].strip() for line in lines.splitlines()] == STEPS
    assert "3 images, 6 -> 6 channels, 9x9" in table
    assert [line[:28].strip() for line in table.splitlines()[2:]] == STEPS


@pytest.mark.parametrize(
    ("right", "wrong", "stopped_at"),
    [
        ("x[n, c, r + i, s + j]", "x[n, c, r + i, s]", "2. im2col, small"),
        ("transpose(1, 4, 5, 0, 2, 3)", "transpose(1, 5, 4, 0, 2, 3)", "2. im2col, small"),
        ("columns(x[n : n + 1])", "columns(x[:1])", "3. im2col in pieces"),
        ("x[n, c, r + i, j:]", "x[n, c, r, j:]", "4. compiled loops"),
        ("kernels.conv2d(x, w, None", "kernels.conv2d(x, -w, None", "5. register tiles"),
        ("kernels.relu(kernels", "(kernels", "5. tiles, then ReLU"),
        ("None, window, 1, True)", "None, window, 1, False)", "6. fused with ReLU"),
    ],
)
def test_a_wrong_step_stops_the_page(monkeypatch, right, wrong, stopped_at):
    text = PAGE.read_text()
    assert right in text
    with pytest.raises(CheckError, match=re.escape(stopped_at)):
        run(monkeypatch, text.replace(right, wrong, 1))


def test_it_is_a_notebook_in_percent_format():
    cells = re.split(r"^# %%", PAGE.read_text(), flags=re.MULTILINE)[1:]
    texts = [cell for cell in cells if cell.startswith(" [markdown]")]
    assert len(texts) >= 8
    for cell in texts:
        body = cell.partition("\n")[2].strip()
        assert body.startswith('"""')
        assert body.endswith('"""')
