"""The size arithmetic of convolution and pooling windows: every rule, once, in pure integers.

With input size L, padding p on both sides, kernel size k, dilation d and stride s, the window
covers ``e = d * (k - 1) + 1`` cells and the output has

    o = floor((L + 2p - e) / s) + 1            (ceil instead of floor with ``ceil_mode``)

cells. With ``ceil_mode`` the last window may hang over the end, but one that would start beyond the
input and its left padding is dropped (the rule of Caffe and PyTorch).
"""

from __future__ import annotations

from typing import NamedTuple

from minicnn_kernels.errors import EmptyMapError, ShapeError

IntPair = int | tuple[int, ...]
Padding = int | tuple[int, ...] | str


class Window2d(NamedTuple):
    """A validated sliding window over one map: build it with `Window2d.of`.

    A named tuple of plain integers, so that compiled kernels can take it as it is.

    Attributes: input ``h w``; kernel ``kh kw``; stride ``sh sw``; dilation ``dh dw``; padding
    before the first row and column ``ph pw`` and after the last ``ph_end pw_end`` (they differ
    only for ``padding="same"`` with an even kernel); output ``oh ow``.

    >>> window = Window2d.of((28, 28), kernel_size=5, padding=2)
    >>> window.oh, window.ow, window.taps
    (28, 28, 25)
    """

    h: int
    w: int
    kh: int
    kw: int
    sh: int
    sw: int
    ph: int
    pw: int
    ph_end: int
    pw_end: int
    dh: int
    dw: int
    oh: int
    ow: int

    @classmethod
    def of(
        cls,
        size: tuple[int, ...],
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: Padding = 0,
        dilation: IntPair = 1,
        ceil_mode: bool = False,
        caller: str = "Window2d",
    ) -> Window2d:
        """Validate the arguments of a convolution or pooling layer and compute its output size.

        ``padding`` is a number, a pair, ``"valid"`` (none) or ``"same"`` (output as large as the
        input; stride 1 only; an odd total puts the extra cell after the last). ``caller`` is the
        function that the error messages name. Raises `ShapeError`, and `EmptyMapError` where not
        one window fits.

        >>> Window2d.of((13, 13), 3, stride=2).oh
        6
        >>> Window2d.of((112, 112), 3, stride=2, ceil_mode=True).oh
        56
        >>> Window2d.of((4, 4), 7, caller="conv2d")
        Traceback (most recent call last):
        ...
        minicnn_kernels.errors.EmptyMapError: conv2d: kernel_size 7 (dilation 1) covers 7 rows, but
        the input has 4 with padding 0 + 0; use a smaller kernel, more padding or a larger input.
        """
        h, w = size
        kh, kw = pair(kernel_size, "kernel_size", caller)
        sh, sw = pair(stride, "stride", caller)
        dh, dw = pair(dilation, "dilation", caller)
        if isinstance(padding, str):
            ph, ph_end = _named_padding(padding, kh, sh, dh, caller)
            pw, pw_end = _named_padding(padding, kw, sw, dw, caller)
        else:
            ph, pw = pair(padding, "padding", caller, minimum=0)
            ph_end, pw_end = ph, pw
        oh = _output_size(h, kh, sh, ph, ph_end, dh, ceil_mode)
        ow = _output_size(w, kw, sw, pw, pw_end, dw, ceil_mode)
        if not oh:
            raise _empty((oh, ow), kh, dh, "rows", h, (ph, ph_end), caller)
        if not ow:
            raise _empty((oh, ow), kw, dw, "columns", w, (pw, pw_end), caller)
        return cls(h, w, kh, kw, sh, sw, ph, pw, ph_end, pw_end, dh, dw, oh, ow)

    @property
    def taps(self) -> int:
        """Cells of one window: KH * KW."""
        return self.kh * self.kw

    @property
    def is_pointwise(self) -> bool:
        """True for a 1x1 window with stride 1 and no padding, which needs no im2col."""
        return self[2:10] == (1, 1, 1, 1, 0, 0, 0, 0)

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the padded map that hold every window, overhanging ones included."""
        rows = max(self.ph + self.h + self.ph_end, (self.oh - 1) * self.sh + self.extent[0])
        columns = max(self.pw + self.w + self.pw_end, (self.ow - 1) * self.sw + self.extent[1])
        return rows, columns

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns from the first to the last tap of a window, both included."""
        return self.dh * (self.kh - 1) + 1, self.dw * (self.kw - 1) + 1

    @property
    def uncovered(self) -> tuple[int, int]:
        """Rows and columns of the padded map beyond the last window, which no output sees.

        >>> Window2d.of((224, 224), 11, stride=4).uncovered
        (1, 1)
        """
        rows = self.ph + self.h + self.ph_end - (self.oh - 1) * self.sh - self.extent[0]
        columns = self.pw + self.w + self.pw_end - (self.ow - 1) * self.sw - self.extent[1]
        return max(rows, 0), max(columns, 0)

    def tap_slices(self, i: int, j: int) -> tuple[slice, slice]:
        """Rows and columns of the padded map that tap (i, j) meets, one per output cell."""
        top, left = i * self.dh, j * self.dw
        rows = slice(top, top + (self.oh - 1) * self.sh + 1, self.sh)
        columns = slice(left, left + (self.ow - 1) * self.sw + 1, self.sw)
        return rows, columns


def pair(value: IntPair, name: str, caller: str, minimum: int = 1) -> tuple[int, int]:
    """Return ``value`` as (height, width); a single number stands for both.

    >>> pair(3, "kernel_size", "conv2d"), pair((1, 7), "kernel_size", "conv2d")
    ((3, 3), (1, 7))
    """
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(numbers) != 2 or not all(_is_int(n) and n >= minimum for n in numbers):
        raise ShapeError(
            f"{caller}: {name} is {value!r}; give a whole number >= {minimum}, "
            "or a (height, width) pair of such."
        )
    return int(numbers[0]), int(numbers[1])


def check_pool_padding(window: Window2d, caller: str) -> Window2d:
    """Refuse padding beyond half a window, which would make pooling windows of padding alone."""
    for padding, extent, name in (
        (window.ph, window.extent[0], "height"),
        (window.pw, window.extent[1], "width"),
    ):
        if padding > extent // 2:
            raise ShapeError(
                f"{caller}: padding {padding} is more than half of the window's {name} {extent}; "
                f"use padding <= {extent // 2} or a larger kernel."
            )
    return window


def adaptive_bins(size: int, bins: int) -> list[slice]:
    """The cells of each adaptive-pooling bin: [floor(i*size/bins), ceil((i+1)*size/bins)).

    >>> [(b.start, b.stop) for b in adaptive_bins(7, 3)]
    [(0, 3), (2, 5), (4, 7)]
    """
    return [slice(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]


def _is_int(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _named_padding(padding: str, k: int, s: int, d: int, caller: str) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise ShapeError(
            f"{caller}: padding is {padding!r}; use 'same', 'valid', a number or a pair of numbers."
        )
    if s != 1:
        raise ShapeError(
            f"{caller}: padding='same' keeps the size of the map, which stride {s} cannot; "
            "give the padding as a number."
        )
    total = d * (k - 1)
    return total // 2, total - total // 2


def _output_size(length: int, k: int, s: int, p: int, p_end: int, d: int, ceil_mode: bool) -> int:
    """Windows along one axis; 0 where the input is smaller than one (in ``ceil_mode``, by s)."""
    room = length + p + p_end - (d * (k - 1) + 1)
    if length < 1:
        return 0
    if not ceil_mode:
        return max(room // s + 1, 0)
    o = -(-room // s) + 1
    return max(o - 1 if (o - 1) * s >= length + p else o, 0)


def _empty(
    output: tuple[int, int], k: int, d: int, axis: str, length: int, padding: tuple[int, int],
    caller: str,
) -> EmptyMapError:  # fmt: skip
    return EmptyMapError(
        f"{caller}: kernel_size {k} (dilation {d}) covers {d * (k - 1) + 1} {axis}, but the input "
        f"has {length} with padding {padding[0]} + {padding[1]}; use a smaller kernel, more "
        "padding or a larger input.",
        output,
    )
