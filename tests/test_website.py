"""The documentation site: its pages name everything there is, links lead somewhere, it is built.

All but the last tests look at the sources of the pages, which need nothing that is not installed.
"""

import inspect
import os
import posixpath
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason='the API has MiniCNNClassifier, the extra "sklearn"')

WEBSITE = Path(__file__).parents[1] / "docs" / "website"
sys.path.insert(0, str(WEBSITE))  # its modules import each other by name, as when run

import api  # noqa: E402
import docstrings  # noqa: E402
import house  # noqa: E402
import readme  # noqa: E402
import tree  # noqa: E402
import zoo  # noqa: E402

from minicnn import models  # noqa: E402
from minicnn.cli import COMMANDS, _parser  # noqa: E402
from minicnn.training import recipes  # noqa: E402
from minicnn_kernels import registry  # noqa: E402

README = (tree.ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages():
    return tree.texts()


def test_every_public_name_is_on_its_page_and_described_once(pages):
    directives = re.findall(r"^\.\. auto\w+:: (\S+)$", "\n".join(pages.values()), re.MULTILINE)
    described = Counter(directives)
    found = api.public()
    assert {"minicnn", "minicnn.nn", "minicnn.training.recipes"} <= set(found)
    for place, names in found.items():
        module = sys.modules[place]
        expected = {n for n in getattr(module, "__all__", ()) if not n.startswith("__")}
        assert expected <= {name.name for name in names}, place
        text = pages[f"{api.page_of(place)}.rst"]
        for name in names:
            assert f":`{name.name} <" in text, f"{place}: {name.name}"
            if not inspect.ismodule(name.value):
                assert described[name.path] == 1, name.path


def test_a_name_that_a_package_gains_is_seen(monkeypatch):
    from minicnn import optim

    def gained():
        """Something new."""

    gained.__module__ = "minicnn.optim.sgd"
    monkeypatch.setattr(optim, "gained", gained, raising=False)
    monkeypatch.setattr(optim, "__all__", [*optim.__all__, "gained"])
    assert "autofunction:: minicnn.optim.gained" in api.pages()["api/minicnn.optim.rst"]


def test_every_architecture_recipe_and_command_has_its_place(pages):
    table = pages["zoo/index.rst"]
    for name in models.names():
        assert f":ref:`{name} <zoo-{name}>`" in table
        page = pages[f"zoo/{zoo.family(name)}.rst"]
        assert f".. _zoo-{name}:" in page
        assert f"{name}-dark.svg" in page
    for name in recipes.names():
        assert f"\n{name}\n{'-' * len(name)}\n" in pages["recipes.rst"]
    parsers = next(a for a in _parser()._actions if a.dest == "command").choices
    for name in COMMANDS:
        for action in parsers[name]._actions[1:]:
            for option in action.option_strings:
                assert option in pages[f"commands/{name}.rst"], f"{name} {option}"


def test_every_source_file_is_on_the_map(pages):
    for name, folder in house.folders().items():
        assert name in pages["house/index.rst"]
        for path in (p for p in folder.iterdir() if p.suffix in (".py", ".cu", ".cuh")):
            if path.name != "__init__.py":
                assert f"\n{path.name}\n----" in pages[f"house/{name}.rst"]
                assert docstrings.first_sentence(
                    docstrings.of_python(path) if path.suffix == ".py" else docstrings.of_cuda(path)
                ), f"{path} does not say what it is for"
    units = {unit for floor in house.floors() for unit in floor}
    assert {"minicnn.autograd", "minicnn_kernels"} <= units


def test_every_section_of_the_readme_is_on_one_page():
    sources = [path.read_text(encoding="utf-8") for path in tree.PAGES.rglob("*.md")]
    used = [title for text in sources for title in readme.MARK.findall(text)]
    used += tree.HEADS.values()
    written = [title for title, text in readme.sections(README).items() if text]
    assert sorted(used) == sorted(written)


def test_links_lead_to_pages_and_files(pages):
    linked = 0
    for path, text in pages.items():
        if not path.endswith(".md"):
            continue
        for link in readme.linked_files(text):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
            there = target in pages or (tree.RESULTS / posixpath.basename(target)).is_file()
            assert there, f"{path} links to {link}"
            linked += 1
    assert linked > 20
    for path, text in pages.items():
        for page in re.findall(r":doc:`[^<`]*<([^>`]+)>`", text):
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), page))
            assert f"{target[1:]}.rst" in pages or target == "/experiments/league_table", page


def test_a_link_of_the_readme_finds_the_page_of_its_section():
    text = "# a\n[x](#b-c) [y](docs/y.md) [z](k/z.md)\n## B c\nhere\n"
    source = {"p/a.md": "<!-- readme: a -->", "q.md": "<!-- readme: B c -->"}
    done = readme.assembled(source, text, {"docs/y.md": "y.md"})
    assert done == {"p/a.md": "[x](../q.md) [y](../y.md) [z](../from/k/z.md)", "q.md": "here"}
    with pytest.raises(KeyError, match="no such"):
        readme.assembled({"p.md": "<!-- readme: no such -->"}, text, {})


def test_python_on_the_pages_runs(capsys, monkeypatch):
    for held in ("_backends", "_loaded"):  # a page registers a kernel set
        monkeypatch.setattr(registry, held, dict(getattr(registry, held)))
    texts = [path.read_text(encoding="utf-8") for path in tree.PAGES.rglob("*.md")]
    examples = [code for text in texts for code in re.findall(r"```python\n(.*?)```", text, re.S)]
    assert examples
    for code in examples:
        exec(compile(code, "a page", "exec"), {})
    assert "[0. 2.]" in capsys.readouterr().out


def test_docstrings_of_both_styles_become_lists():
    text = [
        "Do.",
        "",
        "Parameters",
        "----------",
        "path : file;",
        "    more",
        "x, *y : two",
        "",
        "End.",
    ]
    assert docstrings.to_rst(text) == [
        "Do.", "", "**Parameters**", "", "``path``", "    file;", "    more",
        "``x``, ``*y``", "    two", "", "End.", "",
    ]  # fmt: skip
    sketch = ["A network:", "", "    a -> b", "      -> c"]
    assert docstrings.to_rst(sketch)[2:4] == ["::", ""]
    assert docstrings.to_rst(["At", "    start + a[k]", "and |x|."]) == [
        "At", "", "::", "", "    start + a[k]", "", "and \\|x\\|.", "",
    ]  # fmt: skip
    announced = ["A network::", "", "    a -> b"]
    assert docstrings.to_rst(announced) == [*announced, ""]
    listed = ["Rules", "", "    - a", "    - b"]
    assert docstrings.to_rst(listed) == [*listed, ""]
    below = ["Rules", "  - a", "    that goes on", "  - b"]
    assert docstrings.to_rst(below) == [*below, ""]


def build(folder, *options):
    if missing := [name for name in ("sphinx", "furo", "myst_nb") if find_spec(name) is None]:
        pytest.skip(f'{", ".join(missing)} not installed; the extra "docs" brings them')
    done = subprocess.run(
        [sys.executable, str(WEBSITE), "--output", str(folder / "site"), *options,
         "--work", str(folder / "work")],
        capture_output=True, text=True, check=False,
        env={**os.environ, "MINICNN_BACKEND": "numpy"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.mark.slow
@pytest.mark.sampled(0)
def test_the_site_is_built_and_asks_no_other_server(tmp_path):
    site = build(tmp_path, "--notebooks", "toy")
    pages = sorted(site.rglob("*.html"))
    notebooks = [site / "notebooks" / f"{path.stem}.html" for path in tree.notebooks()]
    assert notebooks
    assert set(notebooks) <= set(pages)
    loads = r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//|<link[^>]* href="(?:https?:)?//'
    for page in pages:
        assert not re.search(loads, page.read_text(encoding="utf-8")), page
    for page in notebooks:
        assert "data:image/png" in page.read_text(encoding="utf-8"), page
