"""The README in parts, so that each fact stands once: in the README, and from there on one page.

A page of ``pages/`` has lines such as ``<!-- readme: Your own pictures -->``. Each is replaced by
what the README has below that heading, down to its next heading of any depth. What a page says
beyond that it says itself. A link inside the README becomes a link between the pages; one to
another Markdown file of the repository brings that file into the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

MARK = re.compile(r"^<!-- readme: (.+) -->$", re.MULTILINE)
LINK = re.compile(r"(?<=\])\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
BROUGHT = "from"  # the folder of the site for files that the README links to
HEAD = ".head"  # the ending of a text that a generated page of the same name begins with


def sections(text: str) -> dict[str, str]:
    """What stands below each heading; a line that looks like one inside of a fence is none.

    >>> sections("# a\\nfirst\\n## b\\n```\\n# no heading\\n```\\n")
    {'a': 'first', 'b': '```\\n# no heading\\n```'}
    """
    found: dict[str, list[str]] = {}
    lines, fenced = [], False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"#+ (.+)", line)
        if heading:
            lines = found.setdefault(heading[1], [])
        else:
            lines.append(line)
    return {title: "\n".join(part).strip() for title, part in found.items()}


def anchor(title: str) -> str:
    """The name that a heading has in a link.

    >>> anchor("Your own pictures")
    'your-own-pictures'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def assembled(pages: Mapping[str, str], text: str, moved: Mapping[str, str]) -> dict[str, str]:
    """The pages with the README's sections in them.

    pages : by its path in the site, the text of each page
    text : the README
    moved : by its path in the repository, the page that a file of it is
    """
    parts = sections(text)
    homes = {
        f"#{anchor(title)}": path.replace(HEAD, ".rst")
        for path, page in pages.items()
        for title in MARK.findall(page)
    }
    done = {}
    for path, page in pages.items():
        if missing := [title for title in MARK.findall(page) if title not in parts]:
            raise KeyError(f"{path} asks for {missing}, which the README does not have")
        done[path] = MARK.sub(lambda m, at=path: _relinked(parts[m[1]], at, homes, moved), page)
    return done


def _relinked(text: str, path: str, homes: Mapping[str, str], moved: Mapping[str, str]) -> str:
    here = posixpath.dirname(path)

    def target(match: re.Match[str]) -> str:
        link = match[1]
        if "://" in link:
            return match[0]
        page = homes[link] if link.startswith("#") else moved.get(link, f"{BROUGHT}/{link}")
        return f"({posixpath.relpath(page, here or '.')})"

    return LINK.sub(target, text)


def linked_files(text: str) -> list[str]:
    """The files of the repository that a text links to.

    >>> linked_files("[a](docs/a.md) [b](#b) [c](https://example.org) ![d](d.png)")
    ['docs/a.md', 'd.png']
    """
    links = LINK.findall(FENCE.sub("", text))
    return [link for link in links if not link.startswith("#") and "://" not in link]
