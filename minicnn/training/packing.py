"""What the files of a checkpoint hold: arrays and plain values as bytes, and back.

The same values always give the same bytes (no time stamps, no order of hashing), so that equal
states have equal checksums.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from minicnn.errors import CheckpointError

__all__ = [
    "ARRAYS",
    "HEAD",
    "WEIGHTS",
    "bfloat16_to_float32",
    "pack_arrays",
    "pack_head",
    "pack_weights",
    "plain",
    "unpack_arrays",
    "unpack_head",
    "unpack_weights",
]

FORMAT = 1
WEIGHTS, ARRAYS, HEAD = "model.safetensors", "state.npz", "checkpoint.json"
FILES = (WEIGHTS, ARRAYS)
# number types of safetensors and NumPy's; a bfloat16 is the upper half of a float32
SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
    "C64": "<c8",
}  # fmt: skip
NON_FINITE = "$float"  # {"$float": "inf"} in checkpoint.json stands for the number


def pack_weights(weights: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of a .safetensors file.

    >>> len(pack_weights({"bias": np.zeros(2, dtype=np.float32)})) > 8
    True
    """
    from safetensors.numpy import save

    rows = {}
    for name, value in weights.items():
        # safetensors copies memory as it lies, so it must lie row by row.
        rows[name] = np.asarray(_as_array("weights", name, value), order="C")
    if "__metadata__" in rows:
        raise CheckpointError("weights['__metadata__']: the safetensors format reserves this name.")
    try:
        return save(rows)
    except Exception as error:
        types = ", ".join(sorted({str(array.dtype) for array in rows.values()}))
        raise CheckpointError(
            f"The weights cannot be saved as safetensors: {error} (their types: {types})."
        ) from error


def unpack_weights(function: str, path: Path, data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays in the bytes of a .safetensors file; ``path`` is for the message.

    bfloat16, which NumPy does not have, becomes float32, which holds all its values.

    >>> data = pack_weights({"bias": np.zeros(2, dtype=np.float32)})
    >>> unpack_weights("load_weights", Path("w.safetensors"), data)
    {'bias': array([0., 0.], dtype=float32)}
    """
    from safetensors import deserialize

    try:
        entries = deserialize(data)
        return {name: _as_stored(entry) for name, entry in entries}
    except Exception as error:
        raise CheckpointError(
            f"{function}: {path} is not a whole .safetensors file that NumPy can hold: "
            f"{error!r:.300}."
        ) from error


def bfloat16_to_float32(halves: np.ndarray) -> np.ndarray:
    """Return bfloat16 numbers, given as 16-bit integers, in float32: they are its upper halves.

    >>> bfloat16_to_float32(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    return (halves.astype(np.uint32) << 16).view(np.float32)


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of an .npz file, which `numpy.load` reads too.

    `numpy.savez` takes names as keyword arguments: no array of its could be called ``file``.

    >>> pack_arrays({"m": np.arange(3)}) == pack_arrays({"m": np.arange(3)})
    True
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            array = _as_array("arrays", name, value)
            try:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            except ValueError as error:
                raise CheckpointError(
                    f"arrays[{name!r}] cannot be saved as {array.dtype}: {error}."
                ) from error
    return buffer.getvalue()


def unpack_arrays(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays in the bytes of an .npz file; ``path`` is for the message.

    >>> unpack_arrays(Path("state.npz"), pack_arrays({"m": np.arange(3)}))
    {'m': array([0, 1, 2])}
    """
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_sizes(archive, len(data))
            for info in archive.infolist():
                with archive.open(info) as member:
                    _check_header(member, info)
                    name = info.filename.removesuffix(".npy")
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    except Exception as error:
        raise CheckpointError(
            f"load_checkpoint: {path} is not a whole .npz: {error!r:.300}."
        ) from error
    return arrays


def pack_head(meta: Mapping[str, Any], contents: Mapping[str, bytes]) -> bytes:
    """Return the bytes of checkpoint.json: format, sizes and sums of the files, meta, own sum.

    >>> data = pack_head({"step": 1}, {WEIGHTS: b"", ARRAYS: b""})
    >>> unpack_head(Path("checkpoint.json"), data)["meta"]
    {'step': 1}
    """
    files = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in contents.items()
    }
    _check_no_marker(meta, "meta")
    body = {
        "format": FORMAT,
        "files": files,
        "meta": plain(meta, "meta", lambda number: {NON_FINITE: repr(number)}),
    }
    whole = {**body, "sha256": _own_sum(body)}
    return json.dumps(whole, indent=1, allow_nan=False).encode() + b"\n"


def unpack_head(path: Path, data: bytes) -> dict[str, Any]:
    """Return ``files`` and ``meta`` of the bytes of a checkpoint.json whose own sum is right.

    >>> unpack_head(Path("checkpoint.json"), b"{}")
    Traceback (most recent call last):
    minicnn.errors.CheckpointError: load_checkpoint: checkpoint.json is corrupt: ...
    """
    try:
        head = json.loads(data.decode("utf-8"))
        stated = head.pop("sha256")
        found = _own_sum(head)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"load_checkpoint: {path} is corrupt: it is not the JSON of a checkpoint "
            f"({error!r:.300})."
        ) from error
    if found != stated:
        raise CheckpointError(
            f"load_checkpoint: {path} is corrupt: its content has SHA-256 {found}, "
            f"but it says {stated}."
        )
    if head.get("format") != FORMAT:
        raise CheckpointError(
            f"load_checkpoint: {path} has format {head.get('format')!r}, but this version of "
            f"minicnn reads format {FORMAT}; load it with the version that wrote it."
        )
    if not _is_head(head):
        raise CheckpointError(
            f"load_checkpoint: {path} lacks the size and sum of {WEIGHTS} or {ARRAYS}, or its step."
        )
    try:
        return {"files": head["files"], "meta": _decode(head["meta"])}
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"load_checkpoint: {path}: a number is no number: {error}."
        ) from error


def plain(value: Any, where: str, non_finite: Callable[[float], Any]) -> Any:
    """Return ``value`` in the types that JSON has, or raise.

    NumPy numbers become Python's, tuples become lists, NaN and infinities what ``non_finite``
    makes of them.

    Raises
    ------
    CheckpointError : a value or a key that JSON cannot hold; ``where`` says which.

    >>> plain({"loss": np.float32(0.5), "sizes": (3, 4)}, "record", str)
    {'loss': 0.5, 'sizes': [3, 4]}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else non_finite(number)
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", non_finite) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise CheckpointError(
                    f"{where} has the key {key!r} ({type(key).__name__}), which JSON would turn "
                    "into text; use a str."
                )
        return {key: plain(v, f"{where}[{key!r}]", non_finite) for key, v in value.items()}
    raise CheckpointError(
        f"{where} is {_kind(value)}, which JSON cannot hold; use numbers, text, lists or dicts "
        "(in a checkpoint, arrays have a place of their own)."
    )


def _as_stored(entry: Mapping[str, Any]) -> np.ndarray:
    """The array of one entry of a .safetensors file, in this machine's byte order."""
    stored = np.dtype(SAFETENSORS[entry["dtype"]])
    array = np.frombuffer(entry["data"], stored).astype(stored.newbyteorder("="), copy=False)
    return (bfloat16_to_float32(array) if entry["dtype"] == "BF16" else array).reshape(
        entry["shape"]
    )


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive that asks for more memory than it has bytes: a decompression bomb."""
    entries = archive.infolist()
    if packed := [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]:
        raise ValueError(f"{packed[0]!r:.200} is compressed, which minicnn does not write")
    if (claimed := sum(entry.file_size for entry in entries)) > size:
        raise ValueError(f"its arrays claim {claimed:,} bytes, and the file has {size:,}")


def _check_header(member: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Refuse a header that asks for another number of bytes than follow it; back to the start."""
    file = np.lib.format
    old = file.read_magic(member)[0] == 1
    shape, _, dtype = (file.read_array_header_1_0 if old else file.read_array_header_2_0)(member)
    claimed, found = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
    if claimed != found and not dtype.hasobject:  # NumPy refuses objects itself
        raise ValueError(f"{info.filename!r:.200} declares {claimed:,} bytes and holds {found:,}")
    member.seek(0)


def _is_head(head: dict[str, Any]) -> bool:
    try:
        sums = [(head["files"][name]["size"], head["files"][name]["sha256"]) for name in FILES]
        step = head["meta"]["step"]
    except (KeyError, TypeError):
        return False
    types = (isinstance(size, int) and isinstance(sha256, str) for size, sha256 in sums)
    return isinstance(step, int) and all(types)


def _own_sum(body: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content, however it is spaced and ordered."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_no_marker(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        if NON_FINITE in value:
            raise CheckpointError(
                f"{where} has the key {NON_FINITE!r}, which checkpoints use themselves."
            )
        for key, item in value.items():
            _check_no_marker(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_no_marker(item, f"{where}[{i}]")


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if NON_FINITE in value:
            return float(value[NON_FINITE])
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def _as_array(what: str, name: Any, value: Any) -> np.ndarray:
    if not isinstance(name, str) or not name or "\0" in name or not _is_utf8(name):
        raise CheckpointError(f"{what} has the name {name!r}; a name must be text without NUL.")
    if not isinstance(value, np.ndarray | np.generic | bool | int | float):
        raise CheckpointError(
            f"{what}[{name!r}] is a {type(value).__module__}.{type(value).__name__}, "
            "not a NumPy array."
        )
    return np.asarray(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
    return f"a {type(value).__module__}.{type(value).__name__}{shape}"
