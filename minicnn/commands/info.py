"""``minicnn info``: versions, backends and threads."""

from __future__ import annotations

import argparse

HELP = "show versions, backends and threads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import importlib.metadata
    import platform

    from minicnn.version import __version__
    from minicnn_kernels import registry, threads

    print(f"minicnn {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in ("numpy", "numba", "cupy-cuda13x"):
        try:
            print(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package} not installed")
    print("backends")
    for name, reason in registry.availability().items():
        print(f"  {name}: {'available' if reason is None else reason}")
    print(f"  in use on the CPU: {registry.selected('cpu')}")
    print(f"threads: {threads.get_num_threads()} of {threads.usable_cores()} usable cores")
    return 0
