"""The commands with all their options, asked of their parsers, and the recipes of the papers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docstrings import escaped
from markup import code, contents, indented, joined, table, title

from minicnn.cli import COMMANDS, _parser
from minicnn.training import recipes


def pages(head: str) -> dict[str, str]:
    """By path in the site, the text of each page; the list begins with the text named ``head``."""
    choices = next(a for a in _parser()._actions if a.dest == "command").choices
    done = {"commands/index.rst": joined(_index(head)), "recipes.rst": joined(_recipes())}
    for name, parser in dict(choices or {}).items():
        done[f"commands/{name}.rst"] = joined(_page(name, parser))
    return done


def _index(head: str) -> Iterator[str]:
    yield from title("The commands")
    yield f".. include:: {head}"
    yield "    :parser: myst_parser.sphinx_"
    yield ""
    rows = [[f":doc:`minicnn {name} <{name}>`", escaped(c.HELP)] for name, c in COMMANDS.items()]
    yield from table(["command", "what it does"], rows)
    yield from contents(COMMANDS, hidden=True)


def _page(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from title(f"minicnn {name}")
    yield escaped(parser.description or "")
    yield ""
    yield f".. program:: minicnn {name}"
    yield ""
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if not actions or all(isinstance(a, argparse._HelpAction) for a in actions):
            continue
        yield from title(str(group.title).capitalize(), "-")
        for action in actions:
            yield from _option(parser, action)
    if parser.epilog:
        yield from _epilog(parser)


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    formatter = parser._get_formatter()
    default = formatter._get_default_metavar_for_optional(action)
    value = "" if action.nargs == 0 else formatter._format_args(action, default)
    names = action.option_strings or [formatter._metavar_formatter(action, action.dest)(1)[0]]
    written = [f"{name} {value}".strip() if action.option_strings else name for name in names]
    text = formatter._expand_help(action) if action.help else ""
    yield f".. option:: {', '.join(written)}"
    yield ""
    yield from indented([escaped(text), ""])


def _epilog(parser: argparse.ArgumentParser) -> Iterator[str]:
    text = str(parser.epilog)
    if parser.formatter_class is argparse.RawDescriptionHelpFormatter:
        yield from code(text.strip("\n").splitlines(), "text")
    else:
        yield from (escaped(text), "")


def _recipes() -> Iterator[str]:
    yield from title("Recipes of the papers")
    yield ":py:mod:`minicnn.training.recipes` says what a recipe is. To use one::"
    yield ""
    yield from indented(
        [
            "minicnn train --recipe resnet_cifar                 # as published",
            "minicnn train --recipe resnet_cifar --share 0.05    # a twentieth of the length",
            "minicnn train --recipe resnet_cifar --lr 0.05       # one setting of your own",
        ]
    )
    yield ""
    for name in recipes.names():
        yield from title(name, "-")
        yield from code(recipes.text(name).splitlines(), "toml")
