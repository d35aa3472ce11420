"""Rules that a page must keep for everyone to read it, checked with the standard parser.

They are a part of what HTML and WCAG 2.1 ask: elements are closed in order, ids are unique and
references lead to them, pictures have words, tables have captions and headers with a scope,
headings go down one level at a time, and nothing is loaded from anywhere.
"""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "source"}
SELF_CLOSED = {"path", "circle"}


class Page(HTMLParser):
    """Reads a page; ``faults`` are the rules that it breaks."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.inside: list[tuple[str, str]] = []  # (innermost element, text)
        self.feed(text)
        self.close()
        if self.open:
            self.faults.append(f"not closed: {self.open}")
        self._document(text)
        self._references()
        self._pictures()
        self._tables()
        self._headings()
        self._nothing_loaded()

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.faults.append(f"<{tag}> has an attribute twice: {names}")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag not in SELF_CLOSED:
            self.faults.append(f"<{tag}/> closes itself")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        if data.strip():
            self.inside.append((self.open[-1] if self.open else "", data))
            if "style" not in self.open:
                self.words.append(data)

    @property
    def text(self) -> str:
        """The words of the page, in one line."""
        return " ".join(" ".join(self.words).split())

    def all(self, *tags: str) -> list[dict[str, str]]:
        """The attributes of each element of these kinds."""
        return [attributes for tag, attributes in self.elements if tag in tags]

    def _document(self, text: str) -> None:
        if not text.startswith("<!DOCTYPE html>"):
            self.faults.append("no doctype")
        if not self.all("html") or not self.all("html")[0].get("lang"):
            self.faults.append("no language")
        for tag in ("title", "h1", "main", "header", "footer"):
            if len(self.all(tag)) != 1 and not (tag == "title" and self.all("title")):
                self.faults.append(f"{len(self.all(tag))} <{tag}>")
        if not any(m.get("name") == "viewport" for m in self.all("meta")):
            self.faults.append("no viewport")

    def _references(self) -> None:
        ids = [a["id"] for _, a in self.elements if "id" in a]
        for name in {name for name in ids if ids.count(name) > 1}:
            self.faults.append(f"id {name!r} is there {ids.count(name)} times")
        for tag, attributes in self.elements:
            targets = attributes.get("aria-labelledby", "").split()
            if tag == "a" and attributes.get("href", "").startswith("#"):
                targets.append(attributes["href"][1:])
            self.faults += [f"<{tag}> refers to no {t!r}" for t in targets if t not in ids]
            named = attributes.get("aria-labelledby") or attributes.get("aria-label")
            if (attributes.get("role") or tag == "nav") and not named:
                self.faults.append(f"<{tag}> with a role has no name")

    def _pictures(self) -> None:
        self.faults += ["<img> without alt" for a in self.all("img") if not a.get("alt")]
        for a in self.all("svg"):
            if a.get("aria-hidden") != "true" and a.get("role") != "img":
                self.faults.append("<svg> is neither a named picture nor hidden")

    def _tables(self) -> None:
        self.faults += [f"<th> without scope: {a}" for a in self.all("th") if "scope" not in a]
        if len(self.all("table")) != len(self.all("caption")):
            self.faults.append("a table has no caption")

    def _headings(self) -> None:
        levels = [int(t[1]) for t, _ in self.elements if t in ("h1", "h2", "h3", "h4")]
        for before, after in zip([0, *levels], levels, strict=False):
            if after > before + 1:
                self.faults.append(f"heading h{after} after h{before}")

    def _nothing_loaded(self) -> None:
        for tag, attributes in self.elements:
            if tag in ("script", "iframe", "object", "embed", "base"):
                self.faults.append(f"there is a <{tag}>")
            for name in ("src", "srcset", "href"):
                value = attributes.get(name)
                if value is not None and not value.startswith(("data:", "#")):
                    self.faults.append(f"<{tag} {name}> leads to {value[:60]!r}")
            if any(name.startswith("on") for name in attributes):
                self.faults.append(f"<{tag}> runs a script")
