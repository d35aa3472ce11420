"""The parser of commands and benchmarks: a mistake is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from minicnn.errors import nearest

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one sentence that names the nearest right word."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; an unknown option is an error that names the nearest one."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(parsed, "parser", self)
            known = [o for action in command._actions for o in action.option_strings]
            word = unknown[0].split("=")[0]
            command.error(
                f"unknown option {word!r}; {nearest(word, known)}see {command.prog} --help."
                if word.startswith("-")
                else f"unexpected argument {word!r}; see {command.prog} --help."
            )
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print one sentence and exit with code 2."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(EXIT_MISTAKE)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            what = action.metavar or action.dest
            raise argparse.ArgumentError(
                None,
                f"unknown {what} {value!r}; {nearest(str(value), choices)}"
                f"choose one of {', '.join(choices)}.",
            )
