"""Build the documentation site: ``python docs/website``, or ``make docs``, which installs it all.

Everything that stands elsewhere is taken from there: the README's sections, docstrings, commands,
architectures, recipes, results and notebooks, which are run. Warnings are errors, a link that leads
nowhere too. The pages need no server and no network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> int:
    """Write the tree, run Sphinx over it, and say where the first page is."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--output", type=Path, default=ROOT / "site", metavar="FOLDER")
    parser.add_argument(
        "--notebooks", choices=("toy", "full", "unrun"), default="toy",
        help="toy: seconds each; full: as a reader would run them; unrun: no outputs",
    )  # fmt: skip
    parser.add_argument("--jobs", default="auto", metavar="N", help="processes (default: cores)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "site", metavar="FOLDER")
    options = parser.parse_args()
    os.environ["MINICNN_NOTEBOOK_SIZE"] = options.notebooks  # read by the notebooks' kernels

    import tree
    from sphinx.cmd.build import main as sphinx

    source = options.work / "source"
    tree.write(source)
    settings = ["-D", "nb_execution_mode=off"] if options.notebooks == "unrun" else []
    code = sphinx([
        "--fail-on-warning", "--fresh-env", "--builder", "html", "--conf-dir", str(HERE),
        "--doctree-dir", str(options.work / "doctrees"), "--quiet", "--jobs", options.jobs,
        *settings, str(source), str(options.work / "html"),
    ])  # fmt: skip
    if code == 0:
        put(options.work / "html", options.output)
        print(f"{options.output / 'index.html'}")
    return code


def put(made: Path, output: Path) -> None:
    """Copy the pages to their place; an earlier site there goes, and nothing else."""
    if (output / "objects.inv").exists():
        shutil.rmtree(output)
    shutil.copytree(made, output, dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
