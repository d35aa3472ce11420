"""`ImageFolder`: what is found, skipped and reported, the split, the cache, and lost files."""

import os
import random
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import JUNK, drawn, write_junk, write_shapes
from PIL import Image

from minicnn.data import ImageFolder, Loader
from minicnn.data._scan import scan
from minicnn.errors import ArgumentError, DataError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "shapes"
    write_shapes(root, 8)
    return root


def test_it_is_called_as_torchvisions(shapes):
    dataset = ImageFolder(root=str(shapes), size=24)
    assert dataset.classes == ("bar", "cross", "disc")
    assert dataset.class_to_idx == {"bar": 0, "cross": 1, "disc": 2}
    assert dataset.targets == [0] * 8 + [1] * 8 + [2] * 8
    assert dataset.samples[8] == (str(shapes / "cross" / "000.jpg"), 1)
    assert dataset.imgs == dataset.samples
    image, label = dataset[9]
    assert (image.shape, image.dtype, label) == ((3, 24, 24), np.uint8, 1)
    images, labels = dataset[[0, 23]]
    assert (images.shape, labels.tolist()) == ((2, 3, 24, 24), [0, 2])
    np.testing.assert_array_equal(dataset[-1][0], dataset[23][0])
    assert len(dataset[:5][1]) == 5
    with pytest.raises(DataError, match="use 0 to 23"):
        dataset[24]
    assert dataset.class_counts().tolist() == [8, 8, 8]
    assert dataset.skipped == ()


def test_height_and_width_and_gray(shapes):
    dataset = ImageFolder(shapes, size=(10, 20), channels=1)
    assert dataset.images.shape == (24, 1, 10, 20)
    assert dataset.in_memory().image_shape == dataset.image_shape == (1, 10, 20)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_of_two_lines_is_reported_on_one(tmp_path):
    write_shapes(tmp_path, 3)
    (tmp_path / "disc" / "no\npicture.jpg").write_bytes(b"")
    os.rename(tmp_path / "bar", tmp_path / "a\nbar")
    dataset = ImageFolder(tmp_path, size=8)
    lines = dataset.report().splitlines()
    assert "(a\\nbar 3, cross 3, disc 3)" in lines[0]
    assert lines[-1].startswith("  disc/no\\npicture.jpg: empty")


def test_junk_is_reported_exactly(tmp_path):
    write_shapes(tmp_path, 3, ("cross", "disc"))
    write_junk(tmp_path / "disc")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    os.mkfifo(tmp_path / "cross" / "pipe.jpg")
    os.symlink(tmp_path / "nowhere", tmp_path / "cross" / "gone.jpg")
    dataset = ImageFolder(tmp_path, size=16)
    assert len(dataset) == 6
    found = {entry.path: entry.reason for entry in dataset.skipped}
    expected = {f"disc/{name}": reason for name, reason in JUNK.items()}
    expected |= {
        "readme.txt": "outside of a class's folder",
        ".git": "hidden",
        "__MACOSX": "made by the system",
        "cross/pipe.jpg": "not a plain file",
        "cross/gone.jpg": "cannot be read: No such file or directory",
    }
    assert found.keys() == expected.keys()
    for path, reason in expected.items():
        assert found[path].startswith(reason), path
    report = dataset.report()
    assert "6 pictures of 2 classes (cross 3, disc 3)" in report
    assert "13 skipped:" in report
    assert "  disc/text.jpg: is not a picture that can be read" in report
    assert dataset.report(shown=2).endswith("and 11 more")


def test_an_archives_one_folder_of_folders_is_opened(tmp_path):
    write_shapes(tmp_path / "PetImages", 2)
    (tmp_path / "readme[1].txt").write_text("hello")
    dataset = ImageFolder(tmp_path, size=16)
    assert dataset.classes == ("bar", "cross", "disc")
    assert [entry.path for entry in dataset.skipped] == ["readme[1].txt"]


def test_a_folder_that_is_divided_already(tmp_path):
    write_shapes(tmp_path / "all" / "train", 4)
    write_shapes(tmp_path / "all" / "valid", 2, ("disc", "bar"))
    (tmp_path / "all" / "test").mkdir()
    (tmp_path / "all" / "test" / "1.jpg").write_text("of no class")
    dataset = ImageFolder(tmp_path, size=16)  # one folder within it, which is opened
    assert dataset.classes == ("bar", "cross", "disc")
    assert {name: len(part) for name, part in dataset.parts.items()} == {
        "train": 12, "validation": 4,
    }  # fmt: skip
    assert dataset.parts["validation"].class_counts().tolist() == [2, 0, 2]
    assert [str(entry) for entry in dataset.skipped] == [
        "all/test: has no folders of classes in it"
    ]
    assert dataset.report().splitlines()[:3] == [
        f"{tmp_path.name}: 16 pictures of 3 classes (bar 6, cross 4, disc 6)",
        "train 12, validation 4",
        "1 skipped:",
    ]
    first = next((tmp_path / "all" / "train" / "bar").iterdir())
    shutil.copy(first, tmp_path / "all" / "valid" / "disc")
    again = ImageFolder(tmp_path, size=16)
    assert "pictures of validation that are in train too, byte for byte: 1" in again.report()
    assert again.fingerprint() != dataset.fingerprint()
    assert ImageFolder(tmp_path / "all" / "train", size=16).parts == {}
    (tmp_path / "all" / "val").mkdir()
    with pytest.raises(DataError, match="test, train, val, valid, two for one part"):
        ImageFolder(tmp_path)
    (tmp_path / "all" / "val").rmdir()
    (tmp_path / "all" / "valid" / "cat").mkdir()
    with pytest.raises(DataError, match="no picture of cat to train on"):
        ImageFolder(tmp_path)


def test_clear_errors(tmp_path, shapes):
    with pytest.raises(DataError, match="does not exist"):
        ImageFolder(tmp_path / "gone")
    with pytest.raises(DataError, match="no sub-folders"):
        ImageFolder(shapes / "bar")
    (tmp_path / "one.txt").write_text("hello")
    with pytest.raises(DataError, match=r"neither a folder nor a \.zip"):
        ImageFolder(tmp_path / "one.txt")
    one = tmp_path / "one"
    shutil.copytree(shapes / "bar", one / "bar")
    with pytest.raises(DataError, match="one class only, 'bar'"):
        ImageFolder(one)
    (one / "cats").mkdir()
    (one / "cats" / "a.jpg").write_text("x")
    with pytest.raises(DataError, match=r"no picture of cats;(.|\n)*cats/a\.jpg: is not a picture"):
        ImageFolder(one)
    assert ImageFolder(one, allow_empty=True).class_counts().tolist() == [8, 0]
    with pytest.raises(ArgumentError, match="channels=4"):
        ImageFolder(shapes, channels=4)
    with pytest.raises(ArgumentError, match="size=0"):
        ImageFolder(shapes, size=0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_and_files_without_permission(tmp_path):
    write_shapes(tmp_path, 2)
    (tmp_path / "disc" / "000.jpg").chmod(0)
    assert "Permission denied" in ImageFolder(tmp_path, size=8).skipped[0].reason
    (tmp_path / "disc").chmod(0)
    try:
        with pytest.raises(DataError, match="disc cannot be listed: Permission denied"):
            ImageFolder(tmp_path, size=8)
    finally:
        (tmp_path / "disc").chmod(0o700)


def test_an_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    write_shapes(tmp_path, 2)
    real = os.scandir

    def refuse(path):
        if Path(path).name == "disc":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="disc cannot be listed: Permission denied"):
        ImageFolder(tmp_path, size=8)


def test_the_split_goes_by_content_and_seed(shapes, tmp_path, monkeypatch):
    def contents(part):
        return {(image.tobytes(), label) for image, label in (part[i] for i in range(len(part)))}

    first, second = ImageFolder(shapes, size=16).split(0.25, seed=3)
    assert first.class_counts().tolist() == [2, 2, 2]
    assert len(second) == 18
    assert not contents(first) & contents(second)
    assert contents(first) == contents(ImageFolder(shapes, size=16).split(0.25, seed=3)[0])
    assert contents(first) != contents(ImageFolder(shapes, size=16).split(0.25, seed=4)[0])
    renamed = tmp_path / "renamed"
    for kind in ("bar", "cross", "disc"):
        (renamed / kind).mkdir(parents=True)
        files = sorted((shapes / kind).iterdir())
        for i, path in enumerate(random.Random(1).sample(files, len(files))):
            shutil.copy(path, renamed / kind / f"{i}{path.suffix}")
    assert contents(first) == contents(ImageFolder(renamed, size=16).split(0.25, seed=3)[0])
    assert ImageFolder(renamed).fingerprint() == ImageFolder(shapes).fingerprint()
    real = os.scandir

    class Backwards:
        def __init__(self, path):
            self.entries = real(path)

        def __enter__(self):
            return reversed(list(self.entries))

        def __exit__(self, *_):
            self.entries.close()

    monkeypatch.setattr(os, "scandir", Backwards)
    backwards = ImageFolder(shapes, size=16)
    assert backwards.samples == ImageFolder(shapes, size=16).samples
    assert contents(backwards.split(0.25, seed=3)[0]) == contents(first)


def test_copies_stay_on_one_side(tmp_path):
    write_shapes(tmp_path, 3, ("cross", "disc"))
    for i in range(5):
        shutil.copy(tmp_path / "disc" / "000.jpg", tmp_path / "disc" / f"copy{i}.jpg")
    dataset = ImageFolder(tmp_path, size=16)
    assert "5 are copies of others" in dataset.report()
    for seed in range(6):
        first, second = dataset.split(0.3, seed=seed)
        sides = [any("copy" in path for path, _ in part.samples) for part in (first, second)]
        assert sum(sides) == 1
        assert len(first) + len(second) == len(dataset)
    with pytest.raises(DataError, match="leaves a part without any"):
        dataset.split(0.01)
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        dataset.split(1.5)


def test_what_the_cache_does_not_hold_is_decoded_again(shapes):
    whole = ImageFolder(shapes, size=16)
    assert whole.is_cached
    nbytes = 3 * 16 * 16
    for cache_bytes in (0, nbytes * 5 + 1):
        some = ImageFolder(shapes, size=16, cache_bytes=cache_bytes, threads=3)
        assert len(some._store.cached) == cache_bytes // nbytes
        assert not some.is_cached
        np.testing.assert_array_equal(some.images, whole.images)


def test_the_same_batches_with_any_cache_and_threads(shapes):
    def batches(**options):
        loader = Loader(ImageFolder(shapes, size=16, **options), 5, shuffle=True, seed=1)
        return np.concatenate([images for images, _ in loader.iterate(2)])

    np.testing.assert_array_equal(batches(), batches(cache_bytes=0, threads=4))


def test_a_file_lost_in_the_middle_costs_one_warning(tmp_path):
    write_shapes(tmp_path, 3, ("cross", "disc"))
    dataset = ImageFolder(tmp_path, size=16, cache_bytes=0)
    (tmp_path / "cross" / "002.JPEG").write_bytes(b"\xff\xd8 lost")
    with pytest.warns(UserWarning, match=r"002\.JPEG could be read before") as caught:
        images = dataset.images
    assert len(caught) == 1
    dataset.images  # noqa: B018  (a second warning would be an error)
    np.testing.assert_array_equal(images[2], images[0])  # the next of its class, going round
    for path in (tmp_path / "cross").iterdir():
        path.unlink()
    with (
        pytest.warns(UserWarning, match="and now cannot"),
        pytest.raises(DataError, match="no picture of 'cross'"),
    ):
        dataset.images  # noqa: B018


def test_memory_stays_within_bounds(tmp_path):
    """600 pictures of 48 KB with room for 10: nothing piles up while they stream by."""
    rng = np.random.default_rng(0)
    for kind in ("cross", "disc"):
        (tmp_path / kind).mkdir()
        for i in range(20):
            drawn(kind, rng, (40, 40)).save(tmp_path / kind / f"{i}.png")
            for j in range(14):
                os.link(tmp_path / kind / f"{i}.png", tmp_path / kind / f"{i}-{j}.png")
    nbytes = 3 * 128 * 128
    tracemalloc.start()
    try:
        dataset = ImageFolder(tmp_path, size=128, cache_bytes=10 * nbytes, threads=2)
        for _ in Loader(dataset, 8, shuffle=True):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # results of 256 files at a time, the cache, and batches as bytes and as floats
    assert len(dataset) == 600
    assert peak < (256 + 10 + 3 * 5 * 8 + 50) * nbytes < 600 * nbytes


def test_own_loader_and_own_judgement(tmp_path):
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for i in range(2):
            (tmp_path / kind / f"{i}.raw").write_bytes(bytes([i]) * 12)
        (tmp_path / kind / "c.txt").write_text("x")

    def raw(content, channels, height, width):
        return np.frombuffer(content, np.uint8).reshape(channels, height, width)

    options = {"size": 2, "is_valid_file": lambda path: path.endswith(".raw")}
    dataset = ImageFolder(tmp_path, loader=raw, **options)
    assert dataset.images[:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    assert dataset.skipped[0].reason == "refused by is_valid_file"
    wrong = r"gave \(1, 3, 2, 2\) uint8 where"
    with pytest.raises(DataError, match=wrong):
        ImageFolder(tmp_path, loader=lambda *args: raw(*args)[None], **options)


def test_subsets_share_memory(shapes):
    dataset = ImageFolder(shapes, size=16)
    part = dataset.subset([3, 20])
    assert part.targets == [0, 2]
    assert part._store is dataset._store
    np.testing.assert_array_equal(part[1][0], dataset[20][0])
    assert part.samples == [dataset.samples[3], dataset.samples[20]]
    assert "24 pictures of shape (3, 16, 16), 3 classes" in repr(dataset)
    with pytest.raises(DataError, match="no indices"):
        dataset.subset([])


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 100)


@settings(max_examples=40)
@given(files=st.dictionaries(st.tuples(NAMES, st.sampled_from([".jpg", ".PNG", ""])), st.binary()))
def test_whatever_lies_in_a_folder_is_a_picture_or_reported(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("any")
    for kind in ("cross", "disc"):
        (root / kind).mkdir()
        Image.new("L", (9, 9)).save(root / kind / "good picture.gif")
    for (name, ending), content in files.items():
        (root / "disc" / (name + ending)).write_bytes(content)
    written = len(os.listdir(root / "disc"))
    dataset = ImageFolder(root, size=8)
    assert len(dataset) + len(dataset.skipped) == 1 + written
    assert all(entry.reason and "\n" not in entry.reason for entry in dataset.skipped)
    assert dataset.report().encode("utf-8")


def test_names_that_are_no_text(tmp_path):
    write_shapes(tmp_path, 1, ("cross", "disc"))
    try:
        Path(os.fsdecode(bytes(tmp_path / "disc") + b"/\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("the file system holds only text names")
    found = scan(tmp_path)
    assert found.skipped[0].path == r"disc/\udcff.txt"
