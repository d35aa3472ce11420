"""Pooling to a given size."""

from __future__ import annotations

import numpy as np

import minicnn.functional as F
from minicnn.testing import Case, OpSpec, broken_function, broken_kernel, distinct
from specs._oracles import as_pair, indices, mean_of


def bins(length: int, count: int) -> list[list[int]]:
    """Cell [j, j+1) belongs to bin i where it meets [i, i+1) * length / count."""
    return [
        [j for j in range(length) if (j + 1) * count > i * length and j * count < (i + 1) * length]
        for i in range(count)
    ]


def adaptive(reduce):
    def oracle(x, output_size):
        OH, OW = as_pair(output_size)
        rows, columns = bins(x.shape[2], OH), bins(x.shape[3], OW)
        y = np.empty((*x.shape[:2], OH, OW))
        for n, c, i, j in indices(y.shape):
            y[n, c, i, j] = reduce([x[n, c, r, s] for r in rows[i] for s in columns[j]])
        return y

    return oracle


def maps(shape: tuple[int, ...], shift: float = 0.0):
    return lambda rng: (distinct(shape, rng) + shift,)


def sizes() -> list[Case]:
    return [
        Case("exact", maps((2, 2, 4, 6)), {"output_size": (2, 3)}, batch=(0,)),
        Case("overlapping bins", maps((2, 1, 7, 5)), {"output_size": 3}, batch=(0,)),
        Case("unequal", maps((1, 2, 5, 4)), {"output_size": (1, 3)}, batch=(0,)),
        Case("one bin", maps((3, 2, 3, 4)), {"output_size": 1}, batch=(0,)),
        Case("as large", maps((1, 1, 3, 4)), {"output_size": (3, 4)}, batch=(0,)),
        Case("larger", maps((1, 2, 2, 3)), {"output_size": (5, 4)}, batch=(0,)),
        Case("1x1 maps", maps((3, 2, 1, 1)), {"output_size": 1}, batch=(0,)),
        Case("1x1 maps to 2x2", maps((2, 2, 1, 1)), {"output_size": 2}, batch=(0,)),
        Case("negative", maps((1, 1, 5, 5), -2.0), {"output_size": 2}),
    ]


def _cells(x, output_size) -> int:
    H, W = x.shape[2:]
    OH, OW = as_pair(output_size)
    return (H // OH + 2) * (W // OW + 2)


def _cut(size: int, count: int) -> list[slice]:
    """Bins whose end is rounded down too, so that they never overlap."""
    ends = [(i * size // count, (i + 1) * size // count) for i in range(count)]
    return [slice(start, max(end, start + 1)) for start, end in ends]


def _disjoint_mean(right, x, output_size):
    y = right(x, output_size)
    for i, rows in enumerate(_cut(x.shape[2], output_size[0])):
        for j, columns in enumerate(_cut(x.shape[3], output_size[1])):
            y[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return y


def _assigned_mean(right, gy, size):
    gx = np.zeros((*gy.shape[:2], *size), gy.dtype)
    for i, rows in enumerate(bins(size[0], gy.shape[2])):
        for j, columns in enumerate(bins(size[1], gy.shape[3])):
            share = gy[:, :, i : i + 1, j : j + 1] / (len(rows) * len(columns))
            gx[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = share
    return gx


def _equal_shares(right, gy, size):
    cells = size[0] * size[1] / (gy.shape[2] * gy.shape[3])
    gx = np.zeros((*gy.shape[:2], *size), gy.dtype)
    for i, rows in enumerate(bins(size[0], gy.shape[2])):
        for j, columns in enumerate(bins(size[1], gy.shape[3])):
            place = (slice(None), slice(None), slice(rows[0], rows[-1] + 1))
            gx[(*place, slice(columns[0], columns[-1] + 1))] += (
                gy[:, :, i : i + 1, j : j + 1] / cells
            )
    return gx


def _assigned_winner(right, gy, position, size):
    N, C = gy.shape[:2]
    gx = np.zeros((N, C, size[0] * size[1]), gy.dtype)
    for n, c, i, j in indices(gy.shape):
        gx[n, c, position[n, c, i, j]] = gy[n, c, i, j]
    return gx.reshape(N, C, *size)


def _position_in_the_bin(right, x, output_size):
    y, position = right(x, output_size)
    return y, position % max(x.shape[3] // output_size[1], 1)


def _column_major(right, gy, position, size):
    return right(gy, position % size[0] * size[1] + position // size[0], size)


SPECS = [
    OpSpec(
        "adaptive_avg_pool2d",
        F.adaptive_avg_pool2d,
        sizes(),
        oracle=adaptive(mean_of),
        terms=_cells,
        faults=[
            broken_kernel("bins never overlap", "adaptive_avg_pool2d", _disjoint_mean),
            broken_kernel("= for += backward", "adaptive_avg_pool2d_grad", _assigned_mean),
            broken_kernel("equal shares backward", "adaptive_avg_pool2d_grad", _equal_shares),
            broken_kernel(
                "rows and columns swapped",
                "adaptive_avg_pool2d",
                lambda right, x, size: right(x.swapaxes(2, 3), size[::-1]).swapaxes(2, 3)[
                    :, :, ::-1
                ],
            ),
        ],
    ),
    OpSpec(
        "adaptive_max_pool2d",
        F.adaptive_max_pool2d,
        sizes(),
        oracle=adaptive(max),
        terms=0,
        faults=[
            broken_kernel(
                "smallest",
                "adaptive_max_pool2d",
                lambda right, x, size: (-(r := right(-x, size))[0], r[1]),
            ),
            broken_kernel("position in the bin", "adaptive_max_pool2d", _position_in_the_bin),
            broken_kernel("= for += backward", "adaptive_max_pool2d_grad", _assigned_winner),
            broken_kernel("column-major position", "adaptive_max_pool2d_grad", _column_major),
            broken_kernel(
                "0 beats negative values",
                "adaptive_max_pool2d",
                lambda right, x, size: (np.maximum((r := right(x, size))[0], 0), r[1]),
            ),
        ],
    ),
    OpSpec(
        "global_avg_pool2d",
        F.global_avg_pool2d,
        [
            Case("maps", maps((2, 3, 4, 5)), batch=(0,)),
            Case("1x1 maps", maps((2, 3, 1, 1)), batch=(0,)),
        ],
        oracle=lambda x: [[mean_of(m.ravel().tolist()) for m in sample] for sample in x],
        terms=lambda x: x.shape[2] * x.shape[3],
        faults=[
            broken_function("sum", lambda x: F.sum(x, (2, 3))),
            broken_function("maximum", lambda x: F.amax(x, (2, 3))),
            broken_function("1x1 maps left", lambda x: F.adaptive_avg_pool2d(x, 1)),
        ],
    ),
]
