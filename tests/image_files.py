"""Pictures and junk written to disk, drawn from fixed numbers."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

JUNK = {
    ".hidden.jpg": "hidden",
    "Thumbs.db": "made by the system",
    "backup.tar": ".tar is no ending of a picture",
    "cut.jpg": "cannot be read as a picture",
    "empty.jpg": "empty, it has no bytes",
    "more": "a folder within a class's folder",
    "noending": "its name has no ending",
    "text.jpg": "is not a picture that can be read",
}


def drawn(kind: str, rng: np.random.Generator, size: tuple[int, int] = (48, 36)) -> Image.Image:
    """A disc, a bar or a cross in one colour on another, somewhere in the middle."""
    width, height = size
    dark, light = (tuple(int(v) for v in rng.integers(*span, 3)) for span in ((0, 90), (160, 256)))
    picture = Image.new("RGB", size, dark)
    draw = ImageDraw.Draw(picture)
    x, y = width / 2 + rng.uniform(-4, 4), height / 2 + rng.uniform(-4, 4)
    r = height * rng.uniform(0.25, 0.35)
    if kind == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=light)
    if kind in ("bar", "cross"):
        draw.rectangle((x - r, y - r / 4, x + r, y + r / 4), fill=light)
    if kind == "cross":
        draw.rectangle((x - r / 4, y - r, x + r / 4, y + r), fill=light)
    return picture


def write_shapes(root: Path, count: int, kinds: tuple[str, ...] = ("bar", "cross", "disc")) -> None:
    """A folder of ``count`` pictures of each kind, of different sizes and formats."""
    rng = np.random.default_rng(7)
    for kind in kinds:
        folder = root / kind
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            ending = (".jpg", ".PNG", ".JPEG", ".bmp")[i % 4]
            picture = drawn(kind, rng, (48 + 5 * (i % 3), 36 + 7 * (i % 2)))
            picture.save(folder / f"{i:03}{ending}")


def write_junk(folder: Path) -> None:
    """One thing of each kind that is no picture; `JUNK` says what is reported of it."""
    content = encoded(drawn("disc", np.random.default_rng(0), (200, 150)), "JPEG")
    (folder / ".hidden.jpg").write_bytes(content)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    with tarfile.open(folder / "backup.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "more").mkdir()
    (folder / "more" / "deep.jpg").write_bytes(content)
    (folder / "noending").write_bytes(content)
    (folder / "text.jpg").write_text("no picture at all")


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
