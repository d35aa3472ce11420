"""What is installed: every module and data file, nothing heavy at import."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"minicnn": ROOT / "minicnn", "minicnn_kernels": ROOT / "kernels" / "minicnn_kernels"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel built from a copy of the sources."""
    import shutil

    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.nbi", "*.nbc")
    for name in ("minicnn", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_every_module_is_in_the_wheel(wheel):
    for name, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            assert f"{name}/{path.relative_to(folder).as_posix()}" in wheel


def test_every_kernel_text_is_in_the_wheel(wheel):
    texts = [*SOURCES["minicnn_kernels"].rglob("*.cu"), *SOURCES["minicnn_kernels"].rglob("*.cuh")]
    assert texts
    for path in texts:
        name = path.relative_to(SOURCES["minicnn_kernels"]).as_posix()
        assert f"minicnn_kernels/{name}" in wheel


def test_data_and_licences_are_in_the_wheel(wheel):
    sample = ROOT / "minicnn" / "data" / "sample" / "fashion-mnist"
    assert len(list(sample.iterdir())) >= 6
    for path in sample.iterdir():
        assert f"minicnn/data/sample/fashion-mnist/{path.name}" in wheel
    recipes = list((ROOT / "minicnn" / "training" / "recipes").glob("*.toml"))
    assert len(recipes) >= 16
    for path in recipes:
        assert f"minicnn/training/recipes/{path.name}" in wheel
    templates = list((ROOT / "minicnn" / "report" / "templates").iterdir())
    assert len(templates) >= 5
    for path in templates:
        assert f"minicnn/report/templates/{path.name}" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert {"minicnn/py.typed", "minicnn_kernels/py.typed"} <= wheel


def test_nothing_but_the_two_packages_is_installed(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(SOURCES)


def test_listed_packages_are_those_on_disk():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    found = {
        ".".join((name, *path.parent.relative_to(folder).parts))
        for name, folder in SOURCES.items()
        for path in folder.rglob("__init__.py")
    }
    assert listed == found
