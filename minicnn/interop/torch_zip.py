"""PyTorch's weight files (.pth, .pt) without PyTorch: a zip archive of a pickle and raw numbers.

::

    <any name>/data.pkl    a pickle of the dictionary; in place of each tensor stands which
                           storage it lies in, where it begins, its shape and its strides
    <any name>/data/0      a storage: the numbers alone, one after the other, not compressed
    <any name>/data/1      ...
    <any name>/byteorder   "little" or "big"; files without it are little

Several tensors may share a storage (tied weights, slices), so a tensor is a view: the element at
index (i, j, ...) is number ``offset + i*stride[0] + j*stride[1] + ...`` of its storage.

Nothing in a file is believed before it is checked. `read_pickle` runs nothing of the pickle. All
records together may claim no more bytes than the file has, so that a small file cannot ask for a
large memory; each is read whole, which compares its checksum; and no tensor reaches outside its
storage. What the format is, is PyTorch's torch/serialization.py and torch/_utils.py (1.6 to 2.13).
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minicnn.interop.pickled import Constructor, Unreadable, pairs, read_pickle
from minicnn.training.packing import bfloat16_to_float32

__all__ = ["read_torch_zip"]

_LIMIT = 2**62  # bytes that NumPy can address in one array, expanded or not
_AXES = 32
_CHUNK = 2**20

# Names of PyTorch's number types: of the storage class and of the dtype. NumPy has no bfloat16.
_BFLOAT16 = "bfloat16"
_DTYPES = {
    "Float": ("float32", "f4"), "Double": ("float64", "f8"), "Half": ("float16", "f2"),
    "BFloat16": (_BFLOAT16, "u2"), "Long": ("int64", "i8"), "Int": ("int32", "i4"),
    "Short": ("int16", "i2"), "Char": ("int8", "i1"), "Byte": ("uint8", "u1"),
    "Bool": ("bool", "?"), "ComplexFloat": ("complex64", "c8"),
    "ComplexDouble": ("complex128", "c16"),
}  # fmt: skip
_CODES = {**dict(_DTYPES.values()), "uint16": "u2", "uint32": "u4", "uint64": "u8"}


def read_torch_zip(path: Path) -> Any:
    """Return what `torch.save` put into a file, tensors as NumPy arrays.

    bfloat16 becomes float32, which holds all its values. Arrays cannot be written, and may share
    memory as the tensors did.

    Raises `Unreadable` for a file that is damaged or holds more than data, and `OSError`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = _read_records(archive, path.stat().st_size)
    except (OSError, Unreadable):
        raise
    except Exception as error:  # what zipfile raises for damaged archives is not documented
        raise Unreadable(
            f"is damaged: its zip archive cannot be read ({error!s:.200}); fetch or save it again."
        ) from error
    return _TensorReader(records).read()


def _read_records(archive: zipfile.ZipFile, size: int) -> dict[str, bytearray]:
    """Every record by its name, without the name of the folder that holds them all."""
    entries = archive.infolist()
    heads = [e.filename.removesuffix("data.pkl") for e in entries if _is_head(e.filename)]
    if len(heads) != 1:
        raise Unreadable(
            "is a zip archive, but not one of torch.save: it has no data.pkl in its one folder; "
            "pass the file that torch.save(model.state_dict(), path) wrote."
        )
    if sum(entry.file_size for entry in entries) > size or len(
        {entry.filename for entry in entries}
    ) < len(entries):
        raise Unreadable(
            f"is damaged or malicious: its records claim more than its {size} bytes, or the same "
            "name; fetch or save it again."
        )
    if packed := next((e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED), None):
        raise Unreadable(
            f"has a compressed record ({packed!r:.200}), which torch.save does not write; "
            "save it again with PyTorch."
        )
    records = {entry.filename: _read_record(archive, entry) for entry in entries}
    return {name.removeprefix(heads[0]): data for name, data in records.items()}


def _read_record(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytearray:
    """All bytes of a record, their checksum compared; `ZipFile.read` would hold them twice."""
    data = bytearray(entry.file_size)
    left = memoryview(data)
    with archive.open(entry) as file:
        while left:
            chunk = file.read(min(_CHUNK, len(left)))
            if not chunk:
                raise EOFError(f"{entry.filename!r} ends early")
            left[: len(chunk)] = chunk
            left = left[len(chunk) :]
    return data


def _is_head(name: str) -> bool:
    folder, _, record = name.partition("/")
    return bool(folder) and record == "data.pkl"


@dataclass(frozen=True)
class _DType:
    """A number type of PyTorch, by its name there."""

    name: str

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(_CODES[self.name])


@dataclass(frozen=True)
class _StorageType:
    """A class of storages; those of the untyped one leave the number type to the tensor."""

    dtype: _DType | None


@dataclass(frozen=True)
class _Storage:
    """A storage, by its record ``data/<key>``."""

    key: str
    dtype: _DType | None


class _TensorReader:
    """What the globals and persistent ids of a state dict's pickle mean."""

    def __init__(self, records: dict[str, bytearray]) -> None:
        self.records = records
        order = bytes(records.get("byteorder", b"little")).strip()
        if order not in (b"little", b"big"):
            raise Unreadable(f"is damaged: its byte order is {order[:20]!r}; fetch it again.")
        self.order: Literal["<", ">"] = "<" if order == b"little" else ">"
        self.arrays: dict[_Storage, np.ndarray] = {}

    def read(self) -> Any:
        return read_pickle(bytes(self.records["data.pkl"]), self._table(), self.storage)

    def _table(self) -> dict[str, Any]:
        rebuild = {
            "_rebuild_tensor": self.tensor,
            "_rebuild_tensor_v2": self.tensor,
            "_rebuild_tensor_v3": self.tensor_of_dtype,
            "_rebuild_parameter": lambda data, *_: data,
            "_rebuild_parameter_with_state": lambda data, *_: data,
        }
        storages = {f"torch.{kind}Storage": _DType(name) for kind, (name, _) in _DTYPES.items()}
        return {
            "collections.OrderedDict": Constructor(_ordered_dict),
            "torch.Size": Constructor(lambda sizes=(): tuple(sizes)),
            "torch.device": Constructor(lambda *name: name),
            "torch.serialization._get_layout": Constructor(lambda name: name),
            "torch.storage.UntypedStorage": _StorageType(None),
            **{f"torch._utils.{name}": Constructor(build) for name, build in rebuild.items()},
            **{name: _StorageType(dtype) for name, dtype in storages.items()},
            **{f"torch.{name}": _DType(name) for name in _CODES},
        }

    def storage(self, reference: Any) -> _Storage:
        """The storage of ``("storage", type, key, device, number of elements)``."""
        if not isinstance(reference, tuple) or len(reference) != 5:
            raise ValueError("a reference to something that is not a storage")
        _, kind, key, _, count = reference
        if not isinstance(kind, _StorageType) or f"data/{key}" not in self.records:
            raise ValueError(f"a reference to the storage {key!r:.50}, which is not there")
        each = kind.dtype.stored.itemsize if kind.dtype else 1
        if not _are_sizes(count) or count * each > len(self.records[f"data/{key}"]):
            raise ValueError(f"the storage {key!r:.50} is shorter than it should be")
        return _Storage(str(key), kind.dtype)

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> np.ndarray:
        """The arguments of ``torch._utils._rebuild_tensor_v2``; the rest concerns autograd."""
        if not isinstance(storage, _Storage) or storage.dtype is None:
            raise ValueError("a tensor without a storage")
        return _view(self.numbers(storage.key, storage.dtype), offset, size, stride)

    def tensor_of_dtype(
        self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any
    ) -> np.ndarray:
        """The arguments of ``torch._utils._rebuild_tensor_v3``."""
        _requires_grad, _hooks, dtype, *_ = rest
        if not isinstance(storage, _Storage) or not isinstance(dtype, _DType):
            raise ValueError("a tensor without a storage")
        return _view(self.numbers(storage.key, dtype), offset, size, stride)

    def numbers(self, key: str, dtype: _DType) -> np.ndarray:
        """All numbers of a storage in this machine's byte order; the same memory each time."""
        place = _Storage(key, dtype)
        if place not in self.arrays:
            data, stored = self.records[f"data/{key}"], dtype.stored
            array = np.frombuffer(
                data, stored.newbyteorder(self.order), len(data) // stored.itemsize
            ).astype(stored, copy=False)
            self.arrays[place] = bfloat16_to_float32(array) if dtype.name == _BFLOAT16 else array
        return self.arrays[place]


def _view(numbers: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
    """The tensor of a shape and strides, counted in elements, that lies in a storage."""
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
        raise ValueError("a tensor whose shape and strides do not match")
    if not _are_sizes(offset, *size, *stride) or len(size) > _AXES:
        raise ValueError(f"a tensor of shape {size!r:.80} with strides {stride!r:.80}")
    if math.prod(n for n in size if n) * numbers.itemsize > _LIMIT:
        raise ValueError(f"a tensor of shape {size!r:.80}")
    if 0 in size:
        return np.empty(size, numbers.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= len(numbers):
        raise ValueError(f"a tensor that reaches to element {last} of {len(numbers)}")
    steps = [s * numbers.itemsize if n > 1 else 0 for n, s in zip(size, stride, strict=True)]
    return np.lib.stride_tricks.as_strided(numbers[offset:], size, steps, writeable=False)


def _are_sizes(*values: Any) -> bool:
    """Whether all are whole numbers from 0."""
    return all(type(value) is int and value >= 0 for value in values)


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    """What ``OrderedDict(items)`` holds, as a dict."""
    keys, values = zip(*items, strict=True) if items else ((), ())
    return pairs(list(keys), list(values))
