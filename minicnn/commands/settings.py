"""Settings of a run as options of a command: one for each field of `TrainConfig`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any


def add_settings(parser: argparse.ArgumentParser) -> None:
    """One option for each field of `TrainConfig`; no default, so that a file's value can stand."""
    from minicnn.training.config import TrainConfig, field_types
    from minicnn.training.setting_checks import Options

    group = parser.add_argument_group("settings")
    types = field_types()
    for field in dataclasses.fields(TrainConfig):
        option = "--" + field.name.replace("_", "-")
        help = f"{field.metadata['help']} (default {_shown(field.default)})".replace("%", "%%")
        common: dict[str, Any] = {"dest": field.name, "default": None, "help": help}
        if types[field.name] is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, **common)
        elif types[field.name] == Options:
            group.add_argument(
                "--option", action="append", type=_option, metavar="NAME=VALUE", **common
            )
        elif types[field.name] == tuple[int, ...]:
            group.add_argument(option, type=int, nargs="+", metavar="N", **common)
        else:
            metavar = {int: "N", float: "X", str: "NAME"}[types[field.name]]
            choices = field.metadata.get("choices")
            if choices:
                common["help"] = f"{field.metadata['help']}: {', '.join(choices)} " + (
                    f"(default {field.default})"
                )
            group.add_argument(
                option, type=types[field.name], choices=choices, metavar=metavar, **common
            )


def _option(text: str) -> tuple[str, Any]:
    """``name=value``, the value as TOML reads it, or as text where that is no TOML."""
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value, like depth=20")
    try:
        return name.strip(), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def _shown(value: Any) -> str:
    return "none" if value in ("", ()) else str(value)
