"""Every reader of files, and how it is fuzzed: a new reader is one line of `ALL_READERS`.

Where a format has a checksum or is compressed, nearly every damaged file fails there and what lies
behind it is never tested. Such a format has a second line, with a ``frame`` that puts the damaged
content into a file whose sums are right.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import minicnn
from minicnn import nn
from minicnn.data import ImageFolder, read_idx, write_idx
from minicnn.data._archive import extract
from minicnn.data.picture import read_picture
from minicnn.errors import MiniCNNError
from minicnn.interop import export_onnx, import_onnx, read_weights
from minicnn.interop.torch_writer import pack_torch_zip
from minicnn.training import packing
from minicnn.training.checkpoint import best_checkpoint, load_checkpoint, newest_checkpoint
from minicnn.training.checkpoint import save_checkpoint as save
from minicnn.training.config import TrainConfig, dump, load_config, resolve
from minicnn.training.history import History

WEIGHTS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([1, -1], np.float32),
}
UNPACKED = "unpacked"  # the folder of an archive's files
STATE = {"optimizer/0/momentum": np.arange(6.0), "step": np.array(3)}


@dataclass(frozen=True)
class Reader:
    """How one reader is fuzzed.

    samples : makes valid contents, from which damaged ones are made
    read : from the path of the file to what it holds
    check : fails where what was read cannot be what the content says
    frame : makes the file's bytes of the content; without it they are the same
    file : where the file lies, in the folder that ``neighbours`` fills
    writes : the name of the folder beside the file in which the reader may write
    needs : package without which the reader is left out
    """

    name: str
    samples: Callable[[], list[bytes]]
    read: Callable[[Path], Any]
    check: Callable[[Any, bytes], None] = lambda value, content: None
    frame: Callable[[bytes], bytes] = bytes
    file: str = "file"
    neighbours: Callable[[Path], Any] = lambda folder: None
    writes: str = ""
    needs: str = "minicnn"

    @property
    def is_possible(self) -> bool:
        """Whether the package is there that the reader needs."""
        return importlib.util.find_spec(self.needs) is not None

    def prepared(self, folder: Path) -> Path:
        """Fill a fresh folder; returns where the damaged file goes."""
        self.neighbours(folder)
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


# -- valid contents


def idx_files(folder: Path | None = None) -> list[bytes]:
    arrays = [np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.array([1.5, -2]), np.int16([7])]
    return [_written(lambda path, a=array: write_idx(path, a)) for array in arrays]


def pictures(*formats: str) -> list[bytes]:
    from PIL import Image

    random = np.random.default_rng(0)
    found = []
    for format in formats:
        for mode, shape in (("L", (9, 11)), ("RGB", (7, 5, 3))):
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, shape, np.uint8), mode).save(buffer, format)
            found.append(buffer.getvalue())
    return found


def archived() -> dict[str, bytes]:
    """The files of a folder of pictures of two classes."""
    first, second = pictures("PNG")
    return {"pets/cats/1.png": first, "pets/dogs/2.png": second, "pets/note.txt": b"hello"}


def zips() -> list[bytes]:
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, data in archived().items():
                archive.writestr(zipfile.ZipInfo(name), data, kind)
        found.append(buffer.getvalue())
    return found


def tars() -> list[bytes]:
    """One of each dialect; the two newer have a name that only they can hold."""
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
            for name, data in archived().items():
                if kind != tarfile.USTAR_FORMAT and name.endswith(".txt"):
                    name = "pets/" + "é" * 99 + ".txt"
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            end = archive.offset
        found.append(buffer.getvalue()[: end + 1024])
    return found


def torch_files() -> list[bytes]:
    return [pack_torch_zip(WEIGHTS), pack_torch_zip({"a": np.float64([1]), "b": np.int64([[2]])})]


def torch_pickles() -> list[bytes]:
    found = []
    for data in torch_files():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            found.append(archive.read(name))
    return found


def configs() -> list[bytes]:
    texts = [dump(TrainConfig()), dump(TrainConfig(epochs=3, model_options=(("dropout", 0.1),)))]
    return [text.encode() for text in texts]


def heads() -> list[bytes]:
    body = {"format": 1, "files": {}, "meta": {"step": 7, "loss": {"$float": "nan"}}}
    for name in packing.FILES:
        body["files"][name] = {"size": 3, "sha256": "0" * 64}
    return [json.dumps(body).encode()]


def histories() -> list[bytes]:
    lines = [json.dumps({"kind": "epoch", "step": s, "loss": None, "lr": 0.1}) for s in range(4)]
    return [("\n".join(lines) + "\n").encode(), b'{"step": 1}\n{"st']


def onnx_files() -> list[bytes]:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 2))
    maps = nn.Sequential(nn.Conv2d(3, 2, 2, padding=1), nn.BatchNorm2d(2), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2))  # fmt: skip
    return [
        _written(lambda path, m=model: export_onnx(m, path, (3, 2, 2))) for model in (flat, maps)
    ]


def _written(write: Callable[[Path], Any]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


# -- frames: files whose sums are right, around any content


def torch_zip_around(pickle: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        for key in range(2):
            archive.writestr(f"archive/data/{key}", bytes(24))
    return buffer.getvalue()


def png_with_right_sums(data: bytes) -> bytes:
    """Every chunk's checksum made right, so that the chunk's content is what is tested."""
    found, at = data[:8], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + size]
        found += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return found + data[at:]


def tar_with_right_sums(data: bytes) -> bytes:
    """Every block that could be a member's head gets the checksum that a head must have."""
    found = bytearray(data)
    for at in range(0, len(found) - 511, 512):
        if found[at + 257 : at + 262] == b"ustar":
            found[at + 148 : at + 156] = b" " * 8
            found[at + 148 : at + 156] = b"%06o\0 " % sum(found[at : at + 512])
    return bytes(found)


def signed_head(data: bytes) -> bytes:
    try:
        body = json.loads(data)
        return json.dumps({**body, "sha256": packing._own_sum(body)}).encode()
    except (ValueError, TypeError, RecursionError):
        return data


# -- readings that take more than a path


def picture(path: Path) -> np.ndarray:
    return read_picture(path, 3, 8, 8)


def settings_of(path: Path) -> TrainConfig:
    return resolve(load_config(path))


def checkpoint(path: Path) -> Any:
    return load_checkpoint(path.parent)


def unpacked_pictures(path: Path) -> ImageFolder:
    """The pictures of an archive; an error must leave nothing of it behind."""
    cache = path.parent / UNPACKED
    try:
        try:
            folder = extract(path, cache, max_files=100, max_bytes=2**20)
        except MiniCNNError:
            assert not any(cache.iterdir()), "an archive that was refused has left files behind"
            raise
        return ImageFolder(folder, size=8, allow_empty=True, threads=1)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def into_a_model(path: Path) -> None:
    """An error must leave the model as it was."""
    model = nn.Linear(3, 2)
    before = model.state_dict()
    try:
        minicnn.load_weights(model, path)
    except MiniCNNError:
        after = model.state_dict()
        assert all(before[name].tobytes() == after[name].tobytes() for name in before), (
            "a file that was refused has changed the model"
        )
        raise


def unpacked_state(path: Path) -> dict[str, np.ndarray]:
    return packing.unpack_arrays(path, path.read_bytes())


def unpacked_head(path: Path) -> dict[str, Any]:
    return packing.unpack_head(path, path.read_bytes())


def a_run(folder: Path) -> None:
    save(folder, "a", WEIGHTS, STATE, {"step": 1})
    save(folder, "b", WEIGHTS, STATE, {"step": 2})


# -- what the results must be


def same_array(value: np.ndarray, content: bytes) -> None:
    """The numbers written again are the file's bytes: nothing was made up or lost."""
    assert _written(lambda path: write_idx(path, value)) == content


def is_picture(value: np.ndarray, content: bytes) -> None:
    assert value.shape == (3, 8, 8)
    assert value.dtype == np.uint8


def are_pictures(value: ImageFolder, content: bytes) -> None:
    assert len(value.classes) >= 2
    assert value.images.shape == (len(value), 3, 8, 8)


def are_layers(value: nn.Module, content: bytes) -> None:
    """However many layers there are, they hold no more numbers than the file has bytes for."""
    assert value.num_parameters() <= len(content)


def are_arrays(value: dict[str, np.ndarray], content: bytes) -> None:
    assert all(isinstance(name, str) and isinstance(a, np.ndarray) for name, a in value.items())
    assert all(a.dtype.kind in "fiubc" for a in value.values())


def is_what_was_saved(value: Any, content: bytes) -> None:
    assert value.meta["step"] in (1, 2)
    for found, saved in ((value.weights, WEIGHTS), (value.arrays, STATE)):
        assert found.keys() == saved.keys()
        assert all(found[name].tobytes() == saved[name].tobytes() for name in saved)


def dumps_again(value: TrainConfig, content: bytes) -> None:
    assert isinstance(dump(value), str)


def checkpoint_file(name: str) -> Callable[[], list[bytes]]:
    def samples() -> list[bytes]:
        contents = {
            packing.WEIGHTS: packing.pack_weights(WEIGHTS),
            packing.ARRAYS: packing.pack_arrays(STATE),
        }
        contents[packing.HEAD] = packing.pack_head({"step": 2}, contents)
        return [contents[name]]

    return samples


def in_checkpoint(name: str, title: str) -> Reader:
    """One file of the newer of two checkpoints is damaged; the run must still have its older."""
    return Reader(
        title,
        checkpoint_file(name),
        lambda path: newest_checkpoint(path.parents[2]),
        is_what_was_saved,
        file=f"checkpoints/b/{name}",
        neighbours=a_run,
    )


def archive(name: str, *parts: Any) -> Reader:
    """An archive of pictures, which is unpacked into a folder beside it."""
    return Reader(name, *parts, writes=UNPACKED)


ALL_READERS = [
    Reader("idx", idx_files, read_idx, same_array),
    Reader("idx.gz", lambda: [gzip.compress(d, mtime=0) for d in idx_files()], read_idx),
    Reader("idx in gzip", idx_files, read_idx, same_array, partial(gzip.compress, mtime=0)),
    Reader("png", partial(pictures, "PNG"), picture, is_picture),
    Reader("png chunks", partial(pictures, "PNG"), picture, is_picture, png_with_right_sums),
    Reader("jpeg", partial(pictures, "JPEG"), picture, is_picture),
    Reader("other pictures", partial(pictures, "GIF", "BMP", "TIFF", "WEBP"), picture, is_picture),
    archive("zip of pictures", zips, unpacked_pictures, are_pictures),
    archive("tar of pictures", tars, unpacked_pictures, are_pictures),
    archive("tar members", tars, unpacked_pictures, are_pictures, tar_with_right_sums),
    archive("tar in gzip", tars, unpacked_pictures, are_pictures, partial(gzip.compress, mtime=0)),
    Reader("safetensors", lambda: [packing.pack_weights(WEIGHTS)], read_weights, are_arrays),
    Reader("safetensors into a model", lambda: [packing.pack_weights(WEIGHTS)], into_a_model),
    Reader("pth", torch_files, read_weights, are_arrays),
    Reader("pth pickle", torch_pickles, read_weights, are_arrays, torch_zip_around),
    Reader("pth into a model", torch_files, into_a_model),
    Reader("toml", configs, settings_of, dumps_again),
    in_checkpoint(packing.WEIGHTS, "checkpoint weights"),
    in_checkpoint(packing.ARRAYS, "checkpoint arrays"),
    in_checkpoint(packing.HEAD, "checkpoint head"),
    Reader("npz", checkpoint_file(packing.ARRAYS), unpacked_state, are_arrays),
    Reader("head with its sum", heads, unpacked_head, frame=signed_head),
    Reader(
        "note of the best",
        lambda: [b'{"name": "a"}\n'],
        lambda path: best_checkpoint(path.parents[1]),
        file="checkpoints/best.json",
        neighbours=a_run,
    ),
    Reader("history", histories, History.read),
    Reader("onnx", onnx_files, import_onnx, are_layers, needs="onnx"),
]
READERS = [reader for reader in ALL_READERS if reader.is_possible]
