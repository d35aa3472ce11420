"""How files are damaged: valid ones, edited a little, and bytes that never were a file.

Random bytes alone test only a reader's first line: nearly all of them fail its magic number. What
finds mistakes is a valid file with a few edits, because most of it still passes the checks that
come first. An edit flips a bit, writes a number of the kind that makes sums overflow where a header
may keep a length, cuts, inserts, doubles a part, or goes on with the tail of another valid file.
Half of all places lie near the beginning or the end, where formats keep their tables.

hypothesis draws the edits, so that a failure is reported with the fewest that show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

Edit = Callable[[bytes], bytes]

NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
WIDE = (*NUMBERS, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS = (
    b"\0", b"\xff\xfe", b"\n", b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"9" * 5000, b"-1",
    b"1e999", b"nan", b"NaN", b"-Infinity", b"../../evil", b"/etc/passwd", b'"', b"'''", b"null",
    b"cos\nsystem\n(S'true'\ntR.", b"\x80\x04\x95", b"PK\x03\x04", b"\x1f\x8b\x08", b"true",
)  # fmt: skip
NEAR = 96

_near = st.integers(0, NEAR).map(lambda n: lambda size: min(n, size))
_end = st.integers(0, NEAR).map(lambda n: lambda size: max(size - n, 0))
_anywhere = st.integers(0, 2**20).map(lambda n: lambda size: n % (size + 1))
_places = st.one_of(_near, _end, _anywhere, _anywhere)
_lengths = st.one_of(st.integers(0, 8), st.integers(0, 400))


def _flip(place, bit: int) -> Edit:
    def edit(data: bytes) -> bytes:
        at = min(place(len(data)), len(data) - 1)
        return data if at < 0 else data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

    return edit


def _write(place, number: int, width: int, order: str) -> Edit:
    word = (number % 256**width).to_bytes(width, order)
    return lambda data: data[: place(len(data))] + word + data[place(len(data)) + width :]


def _replace(place, length: int, other: bytes) -> Edit:
    return lambda data: data[: place(len(data))] + other + data[place(len(data)) + length :]


def _double(start, length: int, place) -> Edit:
    def edit(data: bytes) -> bytes:
        part = data[start(len(data)) :][:length]
        return data[: place(len(data))] + part + data[place(len(data)) :]

    return edit


def _cut(place) -> Edit:
    return lambda data: data[: place(len(data))]


def _go_on_with(other: bytes, place, start) -> Edit:
    return lambda data: data[: place(len(data))] + other[start(len(other)) :]


def _one_of(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """`sampled_from` without the samples in its description, which would be long."""
    return st.integers(0, len(samples) - 1).map(lambda number: samples[number])


def edits(samples: Sequence[bytes]) -> st.SearchStrategy[Edit]:
    """One edit of a file of which ``samples`` are valid examples."""
    return st.one_of(
        st.builds(_flip, _places, st.integers(0, 7)),
        st.builds(
            _write,
            _places,
            st.sampled_from(WIDE),
            st.sampled_from((1, 2, 4, 8)),
            st.sampled_from(("little", "big")),
        ),
        st.builds(_replace, _places, _lengths, st.binary(max_size=12)),
        st.builds(_replace, _places, st.just(0), st.sampled_from(TOKENS)),
        st.builds(_double, _places, _lengths, _places),
        st.builds(_cut, _places),
        st.builds(_go_on_with, _one_of(samples), _places, _places),
    )


@st.composite
def damaged(draw, samples: Sequence[bytes]) -> bytes:
    """Bytes of a damaged file; one time in eight they are drawn at random, or left valid."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.one_of(st.binary(max_size=200), _one_of(samples)))
    data = draw(_one_of(samples))
    for edit in draw(st.lists(edits(samples), min_size=1, max_size=4)):
        data = edit(data)
    return data
