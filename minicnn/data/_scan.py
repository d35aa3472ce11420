"""Which files in a folder of pictures are pictures, and why the others are not.

A folder that people filled holds more than pictures: thumbnails of the system, hidden files, empty
and broken downloads, a text called photo.jpg, a folder in a folder. None of them may end a
training, and none may vanish without a word: each gets a sentence.

Some folders are divided already: ``train``, ``test`` and ``val``, each with the folders of the
classes in it. Those names are nobody's classes, so the division is taken as it was given.

What the name or the kind of a file tells is told here, before a byte is read. Names are sorted, so
that nothing depends on the order in which a file system lists them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from minicnn.errors import DataError

#: endings of files that are looked into, in lower case
ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".dib", ".webp"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".jp2", ".j2k", ".avif", ".ico"),
    )
)
MAX_FILE_BYTES = 256 * 2**20  # a file is read whole, one for each thread
_JUNK = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir"))

#: folders that hold a part of the pictures rather than a class, by their names in lower case
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}

IsValid = Callable[[str], bool]


def one_line(text: str) -> str:
    """The text with control characters as escapes: a name may hold what would break a list.

    >>> print(one_line("a cat\\nand a dog"))
    a cat\\nand a dog
    """
    return "".join(
        c.encode("unicode_escape").decode() if category(c) in ("Cc", "Zl", "Zp") else c
        for c in text
    )


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is not used: its path below the root, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.reason}")


@dataclass(frozen=True)
class Candidate:
    """A file that could be a picture, its label, and its part; "" in an undivided folder."""

    path: Path
    label: int
    part: str


@dataclass(frozen=True)
class Found:
    """What the names tell: classes, candidates, and what is left out.

    ``parts`` names the parts of a folder that is divided already, and is empty for others.
    """

    root: Path
    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    parts: tuple[str, ...] = ()


def scan(root: Path, is_valid_file: IsValid | None = None) -> Found:
    """Look through a folder with one sub-folder for each class.

    Where it holds nothing but one folder of folders, as archives often do, that one is meant; where
    it holds a ``train`` of folders beside a ``test`` or ``val``, the classes are in each of those.

    Raises `DataError` for a folder that cannot be listed or has no sub-folders.
    """
    skipped: list[Skipped] = []
    folders = _class_folders(root, root, skipped)
    while len(folders) == 1 and _holds_folders_only(folders[0]):
        folders = _class_folders(root, folders[0], skipped)
    if not folders:
        raise DataError(
            f"{root} has no sub-folders; put the pictures of each class into a folder of its own, "
            "named like the class."
        )
    parts = _parts(root, folders, skipped) or {"": folders}
    names = sorted({folder.name for folders in parts.values() for folder in folders})
    candidates = []
    for part, folders in parts.items():
        for folder in folders:
            for entry in _listed(folder):
                if reason := _fault(entry, is_valid_file):
                    skipped.append(Skipped(_below(root, entry.path), reason))
                else:
                    label = names.index(folder.name)
                    candidates.append(Candidate(Path(entry.path), label, part))
    classes = tuple(_printable(name) for name in names)
    return Found(
        root, classes, tuple(candidates), tuple(skipped), tuple(part for part in parts if part)
    )


def _parts(root: Path, folders: list[Path], skipped: list[Skipped]) -> dict[str, list[Path]]:
    """The folders of classes in each part of a divided folder; nothing for an undivided one."""
    parts = {_PARTS.get(folder.name.lower(), ""): folder for folder in folders}
    if "" in parts or "train" not in parts or not _holds_folders_only(parts["train"]):
        return {}
    if len(parts) < len(folders):
        names = ", ".join(folder.name for folder in folders)
        raise DataError(f"{root} has the folders {names}, two for one part; keep one of them.")
    divided = {}
    for part, folder in parts.items():
        if _holds_folders_only(folder):
            divided[part] = _class_folders(root, folder, skipped)
        else:
            skipped.append(Skipped(_below(root, str(folder)), "has no folders of classes in it"))
    return divided


def _class_folders(root: Path, base: Path, skipped: list[Skipped]) -> list[Path]:
    """The folders in ``base``; what else is there goes to ``skipped``."""
    folders = []
    for entry in _listed(base):
        if not entry.is_dir():
            reason = _hidden(entry.name) or "outside of a class's folder"
        else:
            reason = _hidden(entry.name)
        if reason:
            skipped.append(Skipped(_below(root, entry.path), reason))
        else:
            folders.append(Path(entry.path))
    return folders


def _holds_folders_only(folder: Path) -> bool:
    """Whether a folder has folders, and no file that could be a picture."""
    visible = [entry for entry in _listed(folder) if not _hidden(entry.name)]
    pictures = any(_ending(entry.name) in ENDINGS for entry in visible if not entry.is_dir())
    return any(entry.is_dir() for entry in visible) and not pictures


def _fault(entry: os.DirEntry[str], is_valid_file: IsValid | None) -> str:
    """Why the thing in a class's folder is no candidate, or nothing."""
    if reason := _hidden(entry.name):
        return reason
    try:
        if entry.is_dir():
            return "a folder within a class's folder"
        status = entry.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if not stat.S_ISREG(status.st_mode):
        return "not a plain file"
    if is_valid_file is not None:
        return "" if is_valid_file(entry.path) else "refused by is_valid_file"
    if _ending(entry.name) not in ENDINGS:
        ending = _ending(entry.name)
        return f"{ending} is no ending of a picture" if ending else "its name has no ending"
    if status.st_size == 0:
        return "empty, it has no bytes"
    if status.st_size > MAX_FILE_BYTES:
        return f"{status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}"
    return ""


def _hidden(name: str) -> str:
    if name.startswith("."):
        return "hidden"
    return "made by the system" if name.lower() in _JUNK else ""


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be listed: {error.strerror or error}; check its name and "
            "permissions."
        ) from error


def _ending(name: str) -> str:
    return _printable(os.path.splitext(name)[1].lower())


def _below(root: Path, path: str) -> str:
    return _printable(os.path.relpath(path, root).replace(os.sep, "/"))


def _printable(name: str) -> str:
    """A name that every terminal and file can hold; names of files need not be valid text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
