"""From what a person names as their pictures to a folder on this machine.

A folder is taken as it is. An archive is unpacked into the cache (`_archive`). A URL is downloaded
into the cache once, and what comes is taken as an archive; ``#sha256=...`` at its end is compared
with the content.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urldefrag, urlsplit

from minicnn.data._archive import extract, is_archive
from minicnn.data._download import cache_folder, is_offline
from minicnn.errors import DataError

_SECONDS = (5.0, 60.0)  # to connect, and between two pieces


def is_url(root: str | os.PathLike[str]) -> bool:
    """Tell whether what was named is to be downloaded."""
    return "://" in os.fspath(root)


def local_folder(root: str | os.PathLike[str]) -> Path:
    """Return the folder of pictures that ``root`` (folder, archive or URL) stands for.

    Raises `DataError` where there is none.
    """
    path = _downloaded(os.fspath(root)) if is_url(root) else Path(root).expanduser()
    if path.is_dir():
        return path
    if not path.exists():
        raise DataError(
            f"{root} does not exist; name a folder with a sub-folder of pictures for each class, "
            "a .zip or .tar of one, or a URL."
        )
    if not path.is_file() or not is_archive(path):
        raise DataError(
            f"{root} is neither a folder nor a .zip or .tar; name a folder with a sub-folder of "
            "pictures for each class, or an archive of one."
        )
    return extract(path, cache_folder("folders"))


def _downloaded(url: str) -> Path:
    import pooch

    address, fragment = urldefrag(url)
    scheme, _, checksum = fragment.partition("=")
    known = checksum if scheme == "sha256" else None
    if urlsplit(address).scheme not in ("http", "https"):
        raise DataError(f"{url} cannot be downloaded; use an address of http or https.")
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    name += "-" + (PurePosixPath(urlsplit(address).path).name or "pictures")[-80:]
    folder = cache_folder("downloads")
    if is_offline() and not (folder / name).exists():
        raise DataError(
            f"{url} is not in the cache, and MINICNN_OFFLINE forbids downloads; unset it, or name "
            "a folder."
        )
    try:
        return Path(pooch.retrieve(address, known, name, folder, downloader=_downloader()))
    except Exception as error:  # of requests, urllib3, the disk, or a wrong checksum
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{url} could not be downloaded: {reason:.300}") from error


def _downloader() -> Any:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    return pooch.HTTPDownloader(chunk_size=1 << 20, timeout=_SECONDS)
