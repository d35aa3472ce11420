"""The README's examples and commands, run as a reader would run them."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_examples_run(capsys):
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    assert re.search(r"loss of the last batch 0\.\d\d", capsys.readouterr().out)


def test_notebook_example_is_about_fifteen_lines():
    first = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len(first.splitlines()) <= 17


def test_every_command_and_folder_it_names_exists():
    from minicnn.cli import _parser

    commands = set(re.findall(r"^    minicnn (\w+)", README, re.MULTILINE))
    known = next(a for a in _parser()._actions if a.dest == "command").choices
    assert commands == set(known)
    for path in re.findall(r"^        (\w+(?:\.py|/)) ", README, re.MULTILINE):
        homes = (ROOT / "minicnn" / path, ROOT / "kernels" / "minicnn_kernels" / path)
        assert any(home.exists() for home in homes), path


@pytest.fixture
def clone(tmp_path):
    if not (ROOT / ".git").exists() or shutil.which("git") is None or shutil.which("make") is None:
        pytest.skip("needs git, make and the repository's history")
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    return folder


@pytest.mark.slow
def test_both_commands_from_a_fresh_clone(clone):
    """Installs into a new environment; shortened by options, otherwise as the README says."""
    quick = "--epochs 1 --source sample --name fresh"
    out = make(clone, "train", f"ARGS={quick}")
    accuracy = re.search(r"test accuracy (0\.\d+)", out)
    assert accuracy, out
    assert float(accuracy.group(1)) > 0.7
    run = clone / "runs" / "fresh"
    assert {"config.toml", "history.jsonl", "checkpoints"} <= {p.name for p in run.iterdir()}
    # a second time there is nothing to install
    plan = make(clone, "--dry-run", "train")
    assert "pip" not in plan
    assert "minicnn train" in plan
    out = make(clone, "test", "ARGS=-q tests/test_geometry.py")
    assert re.search(r"\d+ passed", out), out
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
    )
    assert status.stdout == ""  # everything that the commands make is ignored


def make(folder, *arguments):
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_example_script_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fashion_mnist.py", "--images", "500", "--epochs", "1"])
    runpy.run_path(str(ROOT / "examples" / "fashion_mnist.py"), run_name="__main__")
    out = capsys.readouterr().out
    for part in ("29,034", "epoch 1/1", "test accuracy", "taken for", "first ReLU"):
        assert part in out


def test_the_settings_file_it_shows_can_be_used():
    import tomllib

    from minicnn.training.config import resolve

    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert resolve(tomllib.loads(text)).crop_size == 64
