"""The source tree of the site: pages written by hand, pages generated, notebooks and pictures.

Sphinx gets a folder that holds nothing but what the site shows. `texts` is the whole of it but for
pictures and notebooks, as a table from paths to texts, so that a test can look at all pages without
building one.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Iterable
from pathlib import Path

import api
import commands
import house
import readme
import zoo

from minicnn import inspect, models

ROOT = Path(__file__).parents[2]
PAGES = Path(__file__).parent / "pages"
NOTEBOOKS = ROOT / "examples" / "notebooks"
RESULTS = ROOT / "examples" / "results"
HEADS = {
    "zoo/index.head": "Architectures",
    "house/index.head": "The house",
    "commands/index.head": "At the command line",
}
MOVED = {"docs/parallel.md": "parallel.md", "examples/results/README.md": "experiments/results.md"}
TABLE = "experiments/league_table.md"


def written() -> dict[str, str]:
    """The pages written by hand, by path, with the README's sections in them."""
    pages = {p.relative_to(PAGES).as_posix(): p.read_text("utf-8") for p in PAGES.rglob("*.md")}
    pages |= {path: f"<!-- readme: {title} -->\n" for path, title in HEADS.items()}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    done = readme.assembled(pages, text, MOVED)
    for source, path in MOVED.items():
        done[path] = (ROOT / source).read_text(encoding="utf-8")
    for source in brought(done):
        text = (ROOT / source).read_text(encoding="utf-8")
        done[f"{readme.BROUGHT}/{source}"] = f"---\norphan: true\n---\n{text}"
    return done


def brought(pages: dict[str, str]) -> list[str]:
    """The files of the repository that pages link to and that are no page otherwise."""
    found = set()
    for path, text in pages.items():
        for link in readme.linked_files(text):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
            if target.startswith(f"{readme.BROUGHT}/"):
                found.add(target.removeprefix(f"{readme.BROUGHT}/"))
    return sorted(found)


def texts(names: Iterable[str] | None = None) -> dict[str, str]:
    """By path in the site, the text of every page; ``names``: the architectures, or all."""
    entries = inspect.catalogue(names).entries
    league = league_table()
    return {
        **written(),
        **api.pages(),
        **commands.pages("index.head"),
        **house.pages("index.head"),
        **zoo.pages(entries, "index.head", bool(league)),
        **league,
    }


def league_table() -> dict[str, str]:
    """The newest league table among the results as a page, or nothing."""
    tables = sorted(RESULTS.glob("league*.md"))
    if not tables:
        return {}
    text = tables[-1].read_text(encoding="utf-8")
    return {TABLE: text if text.startswith("# ") else f"# The league table\n\n{text}"}


def notebooks() -> list[Path]:
    """The notebooks in the order of their numbers."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))


def write(folder: Path) -> None:
    """Write the tree into a folder, of which only pictures that are still right are kept."""
    for path in folder.rglob("*"):
        if path.is_file() and path.parent != folder / zoo.PICTURES:
            path.unlink()
    for path, text in texts().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for path in (*RESULTS.glob("*.png"), *RESULTS.glob("*.json")):
        shutil.copy(path, folder / "experiments")
    zoo.draw(folder / zoo.PICTURES, models.names())
    write_notebooks(folder / "notebooks")


def write_notebooks(folder: Path) -> None:
    """The notebooks as Jupyter has them, not yet run, beside what they share and read."""
    import jupytext

    folder.mkdir(parents=True, exist_ok=True)
    measured = folder.parent / RESULTS.name
    shutil.copytree(RESULTS, measured, ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True)
    shutil.copy(NOTEBOOKS / "lesson.py", folder)
    size = os.environ.get("MINICNN_NOTEBOOK_SIZE", "full")
    for path in notebooks():
        notebook = jupytext.read(path)
        note = f"\n\n{{download}}`This page as a notebook file, {path.name} <{path.name}>`"
        if size == "toy":
            note += "; what it shows was computed at toy size, in seconds"
        notebook.cells[0]["source"] += f"{note}.\n"
        jupytext.write(notebook, folder / f"{path.stem}.ipynb", fmt="ipynb")
        shutil.copy(path, folder)
