"""Fetching official files into the cache: several mirrors, checksums, and a quick way to give up.

A machine without a network must notice in seconds, once, and not in every call: all mirrors are
asked at the same time, within one deadline, and a failure is remembered by the process and, through
a small marker file, by other processes for an hour.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_PROBE_SECONDS = 3.0
_READ_SECONDS = 15.0
_REMEMBER_SECONDS = 3600.0
_MARKER = "download-failed.txt"

_failed_in_this_process: dict[Path, str] = {}


class DownloadFailedError(Exception):
    """No mirror gave the file; the message says what each answered."""


@dataclass(frozen=True)
class OfficialFile:
    """A published file: its name on every mirror, and its MD5 sum."""

    name: str
    md5: str


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal checksum of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def is_intact(path: Path, file: OfficialFile) -> bool:
    """Tell whether `path` holds the published file."""
    try:
        return file_digest(path, "md5") == file.md5
    except OSError:
        return False


def cache_folder(name: str) -> Path:
    """Return the folder of this user's cache for one data set; it need not exist."""
    import pooch

    return Path(pooch.os_cache("minicnn")) / name


def is_offline() -> bool:
    """Tell whether the environment variable MINICNN_OFFLINE forbids downloads."""
    return os.environ.get("MINICNN_OFFLINE", "") not in ("", "0")


def recent_failure(folder: Path) -> str | None:
    """Return why a download into `folder` failed within the last hour, or None."""
    if folder in _failed_in_this_process:
        return _failed_in_this_process[folder]
    marker = folder / _MARKER
    try:
        age = time.time() - marker.stat().st_mtime
        reason = marker.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not 0 <= age < _REMEMBER_SECONDS:
        return None
    return f"a download failed {age / 60:.0f} minutes ago ({reason})"


def fetch(files: Sequence[OfficialFile], mirrors: Sequence[str], folder: Path) -> None:
    """Download what is missing or damaged in `folder`, each file from the first mirror that has it.

    A file appears in `folder` only after its checksum was found right. Raises
    `DownloadFailedError`, and remembers it, if a file cannot be had.
    """
    try:
        _fetch(files, mirrors, folder)
    except DownloadFailedError as error:
        _failed_in_this_process[folder] = str(error)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _MARKER).write_text(f"{error}\n", encoding="utf-8")
        raise
    _failed_in_this_process.pop(folder, None)
    with contextlib.suppress(OSError):
        (folder / _MARKER).unlink()


def _fetch(files: Sequence[OfficialFile], mirrors: Sequence[str], folder: Path) -> None:
    asked = {mirror + files[0].name: mirror for mirror in mirrors}
    silent = _unreachable(list(asked))
    answering = [mirror for url, mirror in asked.items() if url not in silent]
    if not answering:
        raise DownloadFailedError(_join(silent))
    for file in files:
        _fetch_one(file, answering, folder)


def _fetch_one(file: OfficialFile, mirrors: Sequence[str], folder: Path) -> None:
    import pooch

    reasons: dict[str, str] = {}
    downloader = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=(_PROBE_SECONDS, _READ_SECONDS))
    for mirror in mirrors:
        url = mirror + file.name
        try:
            # pooch keeps a file whose checksum is right; else it downloads to a temporary file and
            # moves it only when the checksum is right.
            pooch.retrieve(url, f"md5:{file.md5}", file.name, folder, downloader=downloader)
        except Exception as error:  # each mirror may fail in its own way; the next one is the cure
            reasons[url] = _reason(error)
        else:
            return
    raise DownloadFailedError(_join(reasons))


def _unreachable(urls: Sequence[str]) -> dict[str, str]:
    """Ask for all `urls` at once; return those without a good answer in time, and why.

    Threads, because looking up a host name has no timeout of its own.
    """
    answers: queue.Queue[tuple[str, str]] = queue.Queue()

    def ask(url: str) -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                answers.put((url, ""))
        except urllib.error.HTTPError as error:
            error.close()
            answers.put((url, f"HTTP status {error.code}"))
        except Exception as error:  # a proxy or a resolver may raise anything
            answers.put((url, _reason(error)))

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + _PROBE_SECONDS
    outcome = {url: f"no answer in {_PROBE_SECONDS:g} seconds" for url in urls}
    with contextlib.suppress(queue.Empty):
        for _ in urls:
            url, reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            outcome[url] = reason
    return {url: reason for url, reason in outcome.items() if reason}


def _reason(error: Exception) -> str:
    if type(error) is ValueError:  # how pooch reports a checksum, at length
        return "the file there has a wrong checksum"
    cause = getattr(error, "reason", error)
    text = str(getattr(cause, "strerror", None) or cause or type(error).__name__)
    return " ".join(text.split())


def _join(reasons: dict[str, str]) -> str:
    return "; ".join(f"{urlsplit(url).netloc}: {reason}" for url, reason in reasons.items())
