"""Archives are unpacked into the cache, and hostile ones not at all."""

import gzip
import http.server
import io
import shutil
import stat
import tarfile
import threading
import tracemalloc
import warnings
import zipfile
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import write_shapes

from minicnn.data import ImageFolder
from minicnn.data._archive import extract, is_archive
from minicnn.errors import DataError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache in a temporary folder."""
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache"


def zipped(path, *entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def tarred(path, *members):
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def long_name(size):
    """The head of a tar's member whose name has so many bytes."""
    head = member("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    head.size = size
    return head.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("content", [
    long_name(2**31) + bytes(1024),
    gzip.compress(long_name(2**26) + bytes(2**26)),
    b"\x5d" + b"\xff" * 12 + bytes(600),  # bare LZMA with a dictionary of 4 GiB
])  # fmt: skip
def test_what_an_archive_claims_takes_no_memory(tmp_path, content):
    path = tmp_path / "claims.tar"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        assert not is_archive(path)
        with pytest.raises(DataError, match="cannot be unpacked"):
            extract(path, tmp_path / "cache")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_a_folder_in_an_archive_is_the_folder(tmp_path, cache, kind):
    write_shapes(tmp_path / "shapes", 4)
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path, "shapes")
    packed, plain = ImageFolder(archive, size=12), ImageFolder(tmp_path / "shapes", size=12)
    assert packed.classes == plain.classes
    np.testing.assert_array_equal(packed.images, plain.images)
    assert packed.fingerprint() == plain.fingerprint()
    (folder,) = (cache / "minicnn" / "folders").iterdir()
    before = folder.stat().st_mtime_ns
    ImageFolder(archive, size=12)
    assert folder.stat().st_mtime_ns == before


HOSTILE = {
    "up": (zipped, ("a/../../b.jpg", b"x"), "outside of its folder"),
    "root": (zipped, ("/etc/b.jpg", b"x"), "outside of its folder"),
    "drive": (zipped, ("C:/b.jpg", b"x"), "outside of its folder"),
    "backslash": (zipped, ("a\\..\\..\\b.jpg", b"x"), "outside of its folder"),
    "tar up": (tarred, (member("../b.jpg"), b"x"), "outside of its folder"),
    "tar root": (tarred, (member("/tmp/b.jpg"), b"x"), "outside of its folder"),
    "symlink": (tarred, (member("a", tarfile.SYMTYPE, "/etc"), b""), "'a', a link"),
    "hard link": (tarred, (member("a", tarfile.LNKTYPE, "/etc/passwd"), b""), "'a', a link"),
    "device": (tarred, (member("a", tarfile.CHRTYPE), b""), "'a', a device"),
    "pipe": (tarred, (member("a", tarfile.FIFOTYPE), b""), "'a', a device"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_leave_nothing(tmp_path, name):
    make, entry, message = HOSTILE[name]
    good = ("good.jpg", b"x") if make is zipped else (member("good.jpg"), b"x")
    archive = make(tmp_path / "bad", good, entry)
    with pytest.raises(DataError, match=message):
        extract(archive, tmp_path / "deep" / "cache")
    assert list((tmp_path / "deep" / "cache").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "deep"]


def test_links_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(DataError, match="'link', a link"):
        extract(zipped(tmp_path / "bad.zip", (info, "/etc")), tmp_path / "cache")


def test_sizes_are_bounded_by_what_arrives(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(3):
            file.writestr(f"{i}.jpg", b"\0" * 2_000_000)
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    with pytest.raises(DataError, match="more than 5,000,000 bytes"):
        extract(tmp_path / "bomb.zip", tmp_path / "cache", max_bytes=5_000_000)
    with pytest.raises(DataError, match="more than 2 files"):
        extract(tmp_path / "bomb.zip", tmp_path / "cache", max_files=2)
    assert list((tmp_path / "cache").iterdir()) == []
    whole = extract(tmp_path / "bomb.zip", tmp_path / "cache", 3, 6_000_000)
    assert sorted(path.name for path in whole.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_tar_that_ends_at_a_damaged_member(tmp_path, ending):
    tarred(tmp_path / "whole.tar", (member("a/1.jpg"), b"x"), (member("a/2.jpg"), b"y"))
    content = bytearray((tmp_path / "whole.tar").read_bytes())
    content[1024:1034] = b"\x55" * 10  # the name in the second head
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(gzip.compress(content) if ending == "tar.gz" else content)
    with pytest.raises(DataError, match="no member at byte 1,024"):
        extract(path, tmp_path / "cache")
    data = bytearray(gzip.compress((tmp_path / "whole.tar").read_bytes()))
    data[-8] ^= 1  # of its checksum
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be unpacked"):
        extract(path, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_and_encrypted_archives(tmp_path):
    write_shapes(tmp_path / "shapes", 2)
    for kind in ("zip", "gztar"):
        path = tmp_path / shutil.make_archive(str(tmp_path / kind), kind, tmp_path, "shapes")
        content = bytearray(path.read_bytes())
        content[len(content) // 3 : len(content) // 2] = b"\x55" * (
            len(content) // 2 - len(content) // 3
        )
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be unpacked"):
            extract(path, tmp_path / "cache")
    zipped(tmp_path / "secret.zip", ("a.jpg", b"x"))
    content = bytearray((tmp_path / "secret.zip").read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        extract(tmp_path / "secret.zip", tmp_path / "cache")
    zipped(tmp_path / "both.zip", ("a", b"x"), ("a/b.jpg", b"x"))
    with pytest.raises(DataError, match="cannot be unpacked"):
        extract(tmp_path / "both.zip", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@settings(max_examples=60)
@given(
    names=st.lists(st.text("ab./\\:\0 ", min_size=1, max_size=9), max_size=4),
    in_tar=st.booleans(),
)
def test_no_name_writes_outside(tmp_path_factory, names, in_tar):
    home = tmp_path_factory.mktemp("names")
    entries = [(member(n), b"x") if in_tar else (n.replace("\0", "?"), b"x") for n in names]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Duplicate name")
        archive = (tarred if in_tar else zipped)(home / "archive", *entries)
    try:
        folder = extract(archive, home / "cache")
    except DataError:
        assert not any((home / "cache").iterdir())
    else:
        assert folder.parent == home / "cache"
    assert {path.name for path in home.iterdir()} == {"archive", "cache"}


@pytest.fixture
def server(tmp_path):
    """A web server of the folder "site", and how often it was asked."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    (tmp_path / "site").mkdir()
    handler = partial(Handler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_a_url_is_downloaded_once(tmp_path, cache, server, monkeypatch):
    address, asked = server
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MINICNN_OFFLINE", raising=False)
    write_shapes(tmp_path / "shapes", 2)
    shutil.make_archive(str(tmp_path / "site" / "pets"), "zip", tmp_path, "shapes")
    for _ in range(2):
        assert len(ImageFolder(f"{address}/pets.zip?v=1", size=8)) == 6
    assert len(asked) == 1
    with pytest.raises(DataError, match=r"gone\.zip could not be downloaded: 404"):
        ImageFolder(f"{address}/gone.zip")
    with pytest.raises(DataError, match=r"could not be downloaded: .*hash"):
        ImageFolder(f"{address}/pets.zip#sha256={'0' * 64}")
    with pytest.raises(DataError, match="use an address of http"):
        ImageFolder("ftp://127.0.0.1/pets.zip")
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    assert len(ImageFolder(f"{address}/pets.zip?v=1", size=8)) == 6
    with pytest.raises(DataError, match="MINICNN_OFFLINE forbids"):
        ImageFolder(f"{address}/pets.zip?v=2")
