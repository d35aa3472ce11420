"""The zoo: a table of all architectures, and a page for each file of them with its diagrams.

Everything is asked of the registry and of the networks themselves: names, presets, parameters,
multiply-adds, block diagrams. The paper is the second paragraph of the file's docstring, by the
custom of the house.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from docstrings import escaped, of_python, to_rst
from markup import contents, indented, joined, table, title

from minicnn import models
from minicnn.inspect import Entry

ROOT = Path(__file__).parents[2]
PICTURES = "zoo/pictures"  # where they are in the site


def family(name: str) -> str:
    """The file of an architecture: where its builder, or the class that this calls, is written.

    >>> family("vgg16"), family("resnet50")
    ('vgg', 'resnet')
    """
    builder = models.find(name).builder
    return str(getattr(builder, "func", builder).__module__).rpartition(".")[2]


def families(names: Iterable[str]) -> dict[str, list[str]]:
    """The architectures of each file."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(family(name), []).append(name)
    return found


def paper(file: str) -> str:
    """Where an architecture was published."""
    lines = of_python(ROOT / "minicnn" / "models" / f"{file}.py")
    start = lines.index("") + 1
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return "the lecture notes" if lines[start].startswith(" ") else " ".join(lines[start:end])


def pages(entries: Iterable[Entry], head: str, league: bool) -> dict[str, str]:
    """By path in the site, the text of each page.

    entries : the architectures, as `minicnn.inspect.catalogue` counts them
    head : the text that the table begins with
    league : whether there is a league table to lead to
    """
    by_name = {entry.name: entry for entry in entries}
    groups = families(by_name)
    done = {"zoo/index.rst": joined(_index(groups, by_name, head, league))}
    for file, names in groups.items():
        done[f"zoo/{file}.rst"] = joined(_page(file, [by_name[name] for name in names]))
    return done


def draw(folder: Path, names: Iterable[str]) -> None:
    """Write the block diagrams, for light and for dark pages; those that can be as before stay."""
    from minicnn import plot

    folder.mkdir(parents=True, exist_ok=True)
    changed = max(path.stat().st_mtime for path in (ROOT / "minicnn").rglob("*.py"))
    for name in names:
        for dark in (False, True):
            path = folder / f"{name}{'-dark' if dark else ''}.svg"
            if not path.exists() or path.stat().st_mtime < changed:
                plot.architecture(name, dark=dark).save(path)


def figure(name: str, folder: str) -> list[str]:
    """The diagram of an architecture, in both colours."""
    lines = []
    for kind, ending in (("light", ""), ("dark", "-dark")):
        lines += [
            f".. image:: {folder}/{name}{ending}.svg",
            f"    :alt: Block diagram of {name}",
            f"    :class: only-{kind} diagram",
            "    :loading: lazy",
            "",
        ]
    return lines


def _index(
    groups: dict[str, list[str]], found: dict[str, Entry], head: str, league: bool
) -> Iterator[str]:
    yield from title("The zoo")
    yield f".. include:: {head}"
    yield "    :parser: myst_parser.sphinx_"
    yield ""
    yield from title(f"All {len(found)} architectures", "-")
    yield "Parameters and multiply-adds are those of the first preset, the paper's, for one image,"
    yield "without auxiliary heads. A name leads to its block diagram."
    if league:
        yield "What they reach with one budget of training: :doc:`/experiments/league_table`."
    yield ""
    rows = []
    for file, names in sorted(groups.items()):
        for name in names:
            e = found[name]
            shape = "×".join(map(str, e.input_shape))  # noqa: RUF001
            rows.append([
                f":ref:`{name} <zoo-{name}>`", f"{e.parameters:,}", f"{e.multiply_adds:,}", shape,
                str(e.num_classes), ", ".join(e.presets), f":doc:`{file}.py <{file}>`",
            ])  # fmt: skip
    headings = ("name", "parameters", "multiply-adds", "input", "classes", "presets", "file")
    yield from table(headings, rows, "zoo")
    yield from title("Papers", "-")
    rows = [[f":doc:`{file}.py <{file}>`", escaped(paper(file))] for file in sorted(groups)]
    yield from table(["file", "paper"], rows)
    yield from contents(sorted(groups), hidden=True)


def _page(file: str, entries: list[Entry]) -> Iterator[str]:
    lines = of_python(ROOT / "minicnn" / "models" / f"{file}.py")
    heading = lines[0].partition(":")[0].partition(",")[0].rstrip(".")
    yield from title(heading)
    yield f".. py:currentmodule:: minicnn.models.{file}"
    yield ""
    yield from to_rst(lines)
    yield f"Written in :py:mod:`minicnn.models.{file}`; the classes are described in"
    yield ":doc:`/api/minicnn.models`."
    yield ""
    for entry in entries:
        yield from _architecture(entry)


def _architecture(entry: Entry) -> Iterator[str]:
    yield from (f".. _zoo-{entry.name}:", "")
    yield from title(entry.name, "-")
    yield (
        f"{entry.parameters:,} parameters, {entry.multiply_adds:,} multiply-adds for an image of "
        f"{'×'.join(map(str, entry.input_shape))}."  # noqa: RUF001
    )
    yield ""
    rows = []
    for name, preset in models.find(entry.name).presets.items():
        options = ", ".join(f"``{key}={value!r}``" for key, value in preset.options.items())
        shape = "×".join(map(str, preset.input_shape))  # noqa: RUF001
        rows.append([name, shape, str(preset.num_classes), options])
    yield from table(("preset", "input", "classes", "options"), rows)
    yield from (".. raw:: html", "")
    yield from indented([f"<details class=diagram><summary>{entry.name}, drawn</summary>"])
    yield ""
    yield from figure(entry.name, "pictures")
    yield from (".. raw:: html", "", "    </details>", "")
