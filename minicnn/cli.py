"""The command line: ``minicnn train | evaluate | predict | export | models | plot | ...``.

Settings of a run are the fields of `TrainConfig`; an option, a line of a TOML file and a field are
three ways to say the same thing. A mistake gets one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from minicnn.commands import (
    evaluate,
    export,
    info,
    models,
    plot,
    predict,
    recipes,
    report,
    streams,
    summary,
    train,
)
from minicnn.commands.parser import EXIT_INTERRUPTED, EXIT_MISTAKE, Parser
from minicnn.errors import MiniCNNError

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "models": models,
    "summary": summary,
    "plot": plot,
    "report": report,
    "recipes": recipes,
    "info": info,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    streams.prepare()
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except MiniCNNError as error:
        print(f"minicnn {options.command}: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {note}", file=sys.stderr)
        return EXIT_MISTAKE
    except MemoryError as error:
        print(
            f"minicnn {options.command}: the memory does not suffice: {error or 'it is full'}; use "
            "smaller batches or pictures.",
            file=sys.stderr,
        )
        return EXIT_MISTAKE
    except KeyboardInterrupt:  # before there is anything to save
        print(f"\nminicnn {options.command}: interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        streams.silence(sys.stdout)
        return 0
    except OSError as error:  # of a name that is too long, or of the output, for example
        from minicnn.training.files import describe

        streams.silence(sys.stdout)
        print(f"minicnn {options.command}: {describe(error)}.", file=sys.stderr)
        return EXIT_MISTAKE


def _parser() -> Parser:
    from minicnn.version import __version__

    parser = Parser(prog="minicnn", description="Convolutional networks written by hand.")
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        text = command.HELP
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(run=command.run, parser=added)
        command.add_arguments(added)
    return parser
