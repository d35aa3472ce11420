"""Writing weights as `torch.save` does, so that PyTorch loads them; `torch_zip` has the format."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

from minicnn.errors import DTypeError

__all__ = ["pack_torch_zip"]

_STORAGES = {
    "f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short",
    "i1": "Char", "u1": "Byte", "b1": "Bool",
}  # fmt: skip


def pack_torch_zip(weights: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of a file that ``torch.load(path, weights_only=True)`` reads.

    The same weights always give the same bytes. Raises `DTypeError` for a type of numbers that
    PyTorch does not have.

    >>> pack_torch_zip({"bias": np.zeros(2, np.float32)})[:4]
    b'PK\\x03\\x04'
    """
    records = {"data.pkl": _pickled(weights), "byteorder": b"little"}
    for key, array in enumerate(weights.values()):
        records[f"data/{key}"] = array.astype(array.dtype.newbyteorder("<")).tobytes()
    records["version"] = b"3\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(f"weights/{name}"), data)
    return buffer.getvalue()


def _pickled(weights: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of a dict, in protocol 2, with a call of _rebuild_tensor_v2 for each tensor."""
    body = [pickle.PROTO + b"\x02", pickle.EMPTY_DICT, pickle.MARK]
    for key, (name, array) in enumerate(weights.items()):
        body += [_text(name), *_tensor(name, str(key), array)]
    return b"".join([*body, pickle.SETITEMS, pickle.STOP])


def _tensor(name: str, key: str, array: np.ndarray) -> list[bytes]:
    code = array.dtype.str[1:]
    if code not in _STORAGES:
        raise DTypeError(
            f"save_weights: {name} is {array.dtype}, which PyTorch's storages do not have; convert "
            "it, for example to np.float32."
        )
    strides = [step // array.itemsize for step in np.empty_like(array, order="C").strides]
    storage = [
        _text("storage"), _global("torch", f"{_STORAGES[code]}Storage"), _text(key),
        _text("cpu"), _integer(array.size),
    ]  # fmt: skip
    arguments = [
        _tuple(storage), pickle.BINPERSID, _integer(0), _tuple(map(_integer, array.shape)),
        _tuple(map(_integer, strides)), pickle.NEWFALSE,
        _global("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE,
    ]  # fmt: skip
    return [_global("torch._utils", "_rebuild_tensor_v2"), _tuple(arguments), pickle.REDUCE]


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(number: int) -> bytes:
    return pickle.LONG1 + b"\x08" + struct.pack("<q", number)


def _tuple(items: Iterable[bytes]) -> bytes:
    return b"".join([pickle.MARK, *items, pickle.TUPLE])


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
