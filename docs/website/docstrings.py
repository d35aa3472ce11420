"""Docstrings as reStructuredText: what their readers in a terminal see, the page shows too.

The house writes docstrings for the eye. An argument is a line ``name : meaning``, without a
heading; some modules have numpydoc's underlined headings above such lines; a sketch is a paragraph
that is indented; ``|x|`` and ``N*C`` are mathematics. To reStructuredText the first is running
text, the second a misplaced title, the third a quotation whose lines flow together, and the last
are marks of its own. A few rules turn them into a list of definitions, a small heading, a block
that keeps its lines, and the signs that they are. Literal blocks, examples and lists are left as
they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

NAME = r"\*{0,2}[A-Za-z_][\w.]*"
ENTRY = re.compile(rf"({NAME}(?:, {NAME})*) : (\S.*)")
UNDERLINE = re.compile(r"(-{3,})$")
LIST = re.compile(r"([-*+]|\d+[.)]|\(?[a-z]\)) |\.\. |::$")
KEPT = re.compile(r"(``.*?``|`[^`]*`|(?<![\w*/\\])\*\w[\w ,]*\*(?![\w*]))", re.DOTALL)
DEEP = "    "


def to_rst(lines: Sequence[str]) -> list[str]:
    """The lines of a docstring, its indentation removed, for docutils.

    >>> to_rst(["x : Tensor (N, C)", "    two lines", "y, z : numbers"])
    ['``x``', '    Tensor (N, C)', '    two lines', '``y``, ``z``', '    numbers', '']
    >>> to_rst(["Returns", "-------", "A number."])
    ['**Returns**', '', 'A number.', '']
    """
    result: list[str] = []
    before = ""  # the last line of the block before
    literal = False
    for block in _blocks(lines):
        literal = block[0].startswith(" ") and (literal or before.endswith("::"))
        result += block if literal or block[0].lstrip().startswith(">>>") else _block(block, before)
        result.append("")
        before = block[-1]
    return result


def _block(block: list[str], before: str) -> list[str]:
    """A paragraph of running text, entries, or both; ``before`` is the line above it."""
    if len(block) > 1 and UNDERLINE.match(block[1].strip()):
        return [f"**{block[0].strip()}**", "", *_block(block[2:], "")]
    if not block or LIST.match(block[0].lstrip()):
        return _text(block)
    if ENTRY.fullmatch(block[0]):
        return _definitions(block)
    if block[0].startswith(DEEP) and before and not before.startswith(" "):
        return ["::", "", *block]
    start = next((i for i, line in enumerate(block) if line.startswith(DEEP)), len(block))
    if start in (0, len(block)) or any(LIST.match(line.lstrip()) for line in block[1 : start + 1]):
        return _text(block)
    return [*_text(block[:start]), "", *_inset(block[start:])]


def _inset(block: list[str]) -> list[str]:
    """Lines below a sentence and indented: entries, or a sketch; then text again."""
    end = next((i for i, line in enumerate(block) if not line.startswith(DEEP)), len(block))
    inner = [line.removeprefix(DEEP) for line in block[:end]]
    is_list = ENTRY.fullmatch(inner[0])
    shown = _definitions(inner) if is_list else ["::", "", *block[:end]]
    return [*shown, "", *_block(block[end:], "")] if end < len(block) else shown


def _text(block: Sequence[str]) -> list[str]:
    return escaped("\n".join(block)).split("\n")


def escaped(line: str) -> str:
    """Signs as signs: nothing is markup but backticks and ``*words*`` that are emphasised.

    >>> print(escaped("|x| for N*C and ``*_bn``, *never* a_"))
    \\|x\\| for N\\*C and ``*_bn``, *never* a\\_
    """
    parts = KEPT.split(line)  # every second one is kept
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """The paragraphs: lines between empty ones."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line.rstrip())
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _definitions(block: Sequence[str]) -> list[str]:
    """Each entry as a term and its definition; a line that is neither ends the list."""
    result: list[str] = []
    inside = False
    for line in block:
        entry = ENTRY.fullmatch(line)
        if entry:
            result += [""] if result and not inside else []
            terms = ", ".join(f"``{name}``" for name in entry[1].split(", "))
            result += [terms, f"    {escaped(entry[2])}"]
            inside = True
        elif inside and line.startswith(" "):
            result.append(f"    {escaped(line.strip())}")
        else:
            result += ["", escaped(line)] if inside else [escaped(line)]
            inside = False
    return result


def of_python(path: Path) -> list[str]:
    """The docstring of a module, read without importing it; what it may need is not installed."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()


def of_cuda(path: Path) -> list[str]:
    """The comment at the top of a CUDA file, without its slashes."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("//"):
            break
        lines.append(line.removeprefix("//").removeprefix(" "))
    return lines


def first_sentence(lines: Sequence[str]) -> str:
    """The first paragraph of a docstring, up to its first full stop.

    >>> first_sentence(["Convolve maps: the", "filters", "", "more"])
    'Convolve maps: the filters'
    >>> first_sentence(["One. Two."])
    'One.'
    """
    paragraph = " ".join(line.strip() for line in (_blocks(lines) or [[]])[0])
    return escaped(re.split(r"(?<=[a-z)`]\.) (?=[A-Z`])", paragraph, maxsplit=1)[0])
