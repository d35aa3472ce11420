"""Reading an ONNX file that may be damaged or made to do harm.

The file is a message of Protocol Buffers: data, nothing that runs. What it says about itself is not
believed: the length of an array is compared with the bytes that are there before any memory is
taken for it, and data that lie in another file ("external data", which PyTorch writes beside large
networks) are read from the model's own folder alone, however their place is spelled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import CheckpointError
from minicnn.interop._packages import needed

LARGEST_FILE = 2**31 - 1  # Protocol Buffers' own limit
OLDEST_OPSET = 7  # before, arrays of unlike shapes met by other rules
#: numbers of types of TensorProto (onnx.proto), and where the values are if not in raw_data
FLOAT16, INT64 = 10, 7
TYPES: dict[int, tuple[str, str]] = {
    1: ("<f4", "float_data"),
    2: ("<u1", "int32_data"),
    3: ("<i1", "int32_data"),
    6: ("<i4", "int32_data"),
    INT64: ("<i8", "int64_data"),
    9: ("|b1", "int32_data"),
    FLOAT16: ("<f2", "int32_data"),
    11: ("<f8", "double_data"),
}


class OnnxFile:
    """A parsed file: ``model``, the message, and ``opset``, the version of its operators.

    Raises `CheckpointError`; every message names the file.
    """

    def __init__(self, path: str | os.PathLike[str], caller: str) -> None:
        self.path = Path(path)
        self.caller = caller
        data = self._bytes()
        onnx = needed("onnx", caller, "onnx")
        self.model = onnx.ModelProto()
        try:
            self.model.ParseFromString(data)
        except Exception as error:  # DecodeError, of a class that depends on the parser in use
            raise self.error("is not an ONNX file, or is cut short") from error
        if not all(map(_has_texts, _messages(self.model))):
            raise self.error("has names that are no text; it is damaged")
        if not self.model.graph.node or not self.model.graph.output:
            raise self.error("is not an ONNX file: it has no nodes or no outputs")
        versions = [o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")]
        self.opset = max(versions, default=0)
        if self.opset < OLDEST_OPSET:
            raise self.error(
                f"uses opset {self.opset}; export it again with opset {OLDEST_OPSET} or later"
            )

    def error(self, what: str) -> CheckpointError:
        """An error about this file."""
        return CheckpointError(f"{self.caller}: {self.path} {what}.")

    def array(self, tensor: Any) -> np.ndarray:
        """The values of a TensorProto; float16 and float64 become float32."""
        if tensor.data_type not in TYPES:
            raise self.error(
                f"has numbers of type {tensor.data_type} in {tensor.name!r:.80}; known are those "
                f"numbered {', '.join(map(str, TYPES))} in onnx.proto"
            )
        name, field = TYPES[tensor.data_type]
        dtype, shape = np.dtype(name), tuple(tensor.dims)
        if any(n < 0 for n in shape) or len(shape) > 8:
            raise self.error(f"has the shape {shape!s:.80} in {tensor.name!r:.80}")
        count = math.prod(shape)
        if tensor.data_location == 1:
            values = np.frombuffer(self._external(tensor, count * dtype.itemsize), dtype)
        elif tensor.raw_data:
            self._check(tensor, len(tensor.raw_data), count * dtype.itemsize, "bytes")
            values = np.frombuffer(tensor.raw_data, dtype)
        else:
            numbers = getattr(tensor, field)
            self._check(tensor, len(numbers), count, "numbers")
            try:
                values = np.array(numbers, np.uint16 if tensor.data_type == FLOAT16 else dtype)
            except OverflowError as error:
                raise self.error(
                    f"has numbers in {tensor.name!r:.80} that are no {dtype}"
                ) from error
            values = values.view(dtype)
        values = values.reshape(shape)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
            return values.astype(np.float32) if dtype.kind == "f" else values.astype(dtype)

    def _check(self, tensor: Any, there: int, wanted: int, what: str) -> None:
        if there != wanted:
            raise self.error(
                f"holds {there:,} {what} for {tensor.name!r:.80} of shape {tuple(tensor.dims)}, "
                f"which needs {wanted:,}; it is damaged"
            )

    def _external(self, tensor: Any, wanted: int) -> bytes:
        """The bytes of an array that lies in a file beside this one."""
        where = {entry.key: entry.value for entry in tensor.external_data}
        folder = self.path.resolve().parent
        place = where.get("location", "")
        try:
            file = (folder / place).resolve()
            offset, length = int(where.get("offset", 0)), int(where.get("length", wanted))
            if not place or not file.is_relative_to(folder) or not file.is_file():
                raise self.error(
                    f"keeps {tensor.name!r:.80} in {place!r:.80}, which is no file in its folder"
                )
            self._check(tensor, length, wanted, "bytes")
            size = file.stat().st_size
            if offset < 0 or offset + length > size:
                raise self.error(
                    f"keeps {tensor.name!r:.80} at {offset:,} to {offset + length:,} of "
                    f"{place!r:.80}, which has {size:,} bytes"
                )
            with file.open("rb") as stream:
                stream.seek(offset)
                return stream.read(length)
        except (OSError, ValueError) as error:  # a ValueError: no number, or a path with a NUL
            raise self.error(
                f"keeps {tensor.name!r:.80} in {place!r:.80}, which could not be read ({error})"
            ) from error

    def _bytes(self) -> bytes:
        try:
            if self.path.exists() and not self.path.is_file():
                raise self.error("is no file; pass the path of an .onnx file")
            size = self.path.stat().st_size
            if size > LARGEST_FILE:
                raise self.error(f"has {size:,} bytes; the format allows {LARGEST_FILE:,}")
            return self.path.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise self.error(f"could not be read: {reason}") from error


def _messages(message: Any) -> Iterator[Any]:
    """A message and all messages in it."""
    waiting = [message]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting += [value] if hasattr(value, "ListFields") else list(value)


def _has_texts(message: Any) -> bool:
    """Whether all texts are texts: one that is no UTF-8 is given as bytes."""
    return not any(
        isinstance(value, bytes) or (not isinstance(value, str) and bytes in set(map(type, value)))
        for field, value in message.ListFields()
        if field.type == field.TYPE_STRING
    )
