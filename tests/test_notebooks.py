"""The notebooks run as scripts at toy size, show what the notes' examples come to, and convert."""

import ast
import json
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("matplotlib", reason='pictures need the extra "plot"')

from notebook_facts import FACTS

import minicnn
from minicnn import plot
from minicnn_kernels import registry

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = {path.stem: path for path in sorted(FOLDER.glob("[0-9][0-9]_*.py"))}
README = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")


def cells(text):
    """The cells of a file in percent format: (is it text, what is in it)."""
    for cell in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        mark, _, body = cell.partition("\n")
        is_text = mark.strip() == "[markdown]"
        assert is_text or not mark.strip(), mark
        yield is_text, ast.literal_eval(body.strip()) if is_text else body


def code_in(text):
    """The code in answers: what a reader would try."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    """The notebooks' helper at toy size; what they write goes to a temporary folder."""
    monkeypatch.setenv("MINICNN_NOTEBOOK_SIZE", "toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "lesson", raising=False)
    for held in ("_backends", "_loaded"):  # a page may register kernel sets of its own
        monkeypatch.setattr(registry, held, dict(getattr(registry, held)))
    import lesson

    assert lesson.TOY
    yield lesson
    del sys.modules["lesson"]


def run(path):
    """Run a notebook as a script; returns its names."""
    with minicnn.use_backend("numpy"):
        return runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_finds_the_known_numbers(name, lesson, capsys):
    names = run(NOTEBOOKS[name])
    found = {fact: lesson.checked.get(fact) for fact in FACTS[name]}
    assert found == FACTS[name]
    printed = capsys.readouterr().out
    assert [fact for fact in FACTS[name] if f"✓ {fact}: " not in printed] == []
    pictures = sorted(Path("runs", "notebooks", name).glob("*.png"))
    assert len(pictures) >= 5
    assert all(picture.stat().st_size > 2000 for picture in pictures)
    answers = [code for is_text, text in cells(NOTEBOOKS[name].read_text()) if is_text
               for code in code_in(text)]  # fmt: skip
    assert len(answers) >= 3
    for code in answers:
        with minicnn.use_backend("numpy"):
            exec(compile(code, f"answer of {name}", "exec"), names)


@pytest.mark.parametrize(("name", "right", "wrong", "fact"), [
    ("01_tensor_and_gradient", "parent.gradient +=", "parent.gradient =", "our engine on x"),
    ("02_convolution", "RING = [[1, 1, 1], [1, -1, 1]", "RING = [[1, 1, 1], [1, 1, 1]", "ring fil"),
    ("03_pooling_and_full_connection", "[1, 3, 0, 1]", "[1, 4, 0, 1]", "max pooling 2x2"),
    ("07_vgg", "ways([3, 3, 3]), np", "ways([3, 5]), np", "ways through three"),
    ("08_inception", "padding=k // 2).output", "padding=1).output", "with padding 0, 1"),
    ("09_resnet_and_its_family", "range(8), 1, 1] = 1", "range(8), 1, 2] = 1", "31 layers less"),
    ("10_own_op_and_kernels", "s + x * s * (1 - s)", "s + s * (1 - s)", "its slope there"),
    ("11_backends", "large, small = np.float32(1e8)", "large, small = np.float32(9)", "in f"),
])  # fmt: skip
def test_a_mistake_stops_a_notebook(name, right, wrong, fact, lesson, tmp_path):
    text = NOTEBOOKS[name].read_text()
    assert text.count(right) == 1
    path = tmp_path / f"{name}.py"
    path.write_text(text.replace(right, wrong))
    with pytest.raises(AssertionError, match=fact):
        run(path)


def test_a_number_that_is_wrong_is_named(lesson, capsys):
    lesson.check("half", 0.5004, 0.5, digits=3)
    lesson.check("pair", (1, 2), [1, 2])
    assert capsys.readouterr().out == "✓ half: 0.5\n✓ pair: (1, 2)\n"
    assert lesson.checked == {"half": 0.5, "pair": [1, 2]}
    for found, expected, digits in [
        (0.5006, 0.5, 3), (2, 1, None), ([1, 2], [1], None), (float("nan"), 0.0, 3),
    ]:  # fmt: skip
        with pytest.raises(AssertionError, match="size: found"):
            lesson.check("size", found, expected, digits)
    assert "size" not in lesson.checked


def test_pictures_are_displayed_in_a_notebook_and_written_by_a_script(lesson, monkeypatch, capsys):
    picture = plot.window((4, 4), 2)
    lesson.show(picture)
    (path,) = Path("runs").rglob("*.png")
    assert capsys.readouterr().out == f"picture {path}: {picture.title}\n"
    displayed = []
    kernel = SimpleNamespace(
        get_ipython=lambda: "a shell", display=SimpleNamespace(display=displayed.append)
    )
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    lesson.show(picture)
    assert displayed == [picture]
    assert len(list(Path("runs").rglob("*.png"))) == 1


def test_every_notebook_has_known_numbers():
    assert sorted(FACTS) == sorted(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_built_like_the_others(name):
    text = NOTEBOOKS[name].read_text()
    (first_is_text, opening), *rest = cells(text)
    assert first_is_text
    assert opening.lstrip().startswith(f"# {int(name[:2])}. ")
    for part in ("**What you will be able to do.**", "**How to open this page.**", "VS Code",
                 f"python examples/notebooks/{name}.py"):  # fmt: skip
        assert part in " ".join(opening.split())
    assert "format_name: percent" in text.partition("# %%")[0]
    code = [body for is_text, body in rest if not is_text]
    assert len(code) >= 10
    for body in code:
        compile(body, name, "exec")
        assert len(body.strip().splitlines()) <= 45, body
    words = [body for is_text, body in rest if is_text]
    exercises = words[-1]
    assert "## Exercises" in exercises
    count = len(re.findall(r"^\d\. ", exercises, re.MULTILINE))
    assert count == exercises.count("<details>") == exercises.count("</details>") >= 3


def test_jupytext_reads_them(tmp_path):
    if find_spec("jupytext") is None:
        pytest.skip("jupytext is not installed")
    paths = [shutil.copy(path, tmp_path) for path in NOTEBOOKS.values()]
    command = [sys.executable, "-m", "jupytext", "--quiet", "--to", "ipynb", *map(str, paths)]
    subprocess.run(command, check=True)
    for name, path in NOTEBOOKS.items():
        notebook = json.loads((tmp_path / f"{name}.ipynb").read_text(encoding="utf-8"))
        kinds = [cell["cell_type"] == "markdown" for cell in notebook["cells"]]
        assert kinds == [is_text for is_text, _ in cells(path.read_text())]
        assert "".join(notebook["cells"][0]["source"]).startswith(f"# {int(name[:2])}. ")
        assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_the_readme_names_them():
    for name in NOTEBOOKS:
        assert f"`{name}.py`" in README
