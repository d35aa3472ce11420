"""Packages that only some of the exchanges need: imported when asked for, missed with a cure."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from minicnn.errors import MissingPackageError


def needed(package: str, caller: str, extra: str) -> Any:
    """Import a package of an extra, or raise `MissingPackageError`.

    >>> needed("json", "example", "none").dumps([1])
    '[1]'
    """
    try:
        return import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        raise MissingPackageError(
            f"{caller}: needs the package {top} ({error}); install it with "
            f"pip install 'minicnn[{extra}]'."
        ) from error
