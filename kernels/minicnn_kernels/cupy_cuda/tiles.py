"""The tiles that a matrix product is cut into, and which one a product gets.

See tile.cuh for what a tile is. A large tile uses each number it reads more often: 128 x 128 does
128 multiply-adds for every two numbers that come into shared memory, 32 x 32 only 32. But where the
matrix is small, large tiles stick out over its edges or leave processors without one. `choose` adds
up both: the fullest processor gets ``ceil(blocks / PROCESSORS)`` tiles, each costs its area over
its rate, and the tile with the least sum wins. The rates are estimates relative to the largest
tile, from the numbers read for each multiply-add.

The choice depends on sizes alone and never on the device, because the order of a sum depends on it:
equal arguments give equal bits on every GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

PROCESSORS = 132  # multiprocessors of an H100 SXM or H200


class Tile(NamedTuple):
    """BM x BN results in steps of BK, and the warps that share them."""

    bm: int
    bn: int
    bk: int
    warps_m: int
    warps_n: int
    warps_k: int
    stages: int
    rate: float

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_m * self.warps_n * self.warps_k

    def shared(self, a_by_rows: bool, b_by_rows: bool) -> int:
        """Bytes of shared memory of all stages."""
        a = self.bm * (self.bk + 4) if a_by_rows else self.bk * (self.bm + 8)
        b = self.bn * (self.bk + 4) if b_by_rows else self.bk * (self.bn + 8)
        return 4 * self.stages * (a + b)

    def defines(self, tf32: bool, a_by_rows: bool, b_by_rows: bool) -> dict[str, int]:
        """The constants that tile.cuh is compiled with."""
        return {
            "BM": self.bm,
            "BN": self.bn,
            "BK": self.bk,
            "WARPS_M": self.warps_m,
            "WARPS_N": self.warps_n,
            "WARPS_K": self.warps_k,
            "STAGES": self.stages,
            "TF32": int(tf32),
            "A_BY_ROWS": int(a_by_rows),
            "B_BY_ROWS": int(b_by_rows),
        }


# For a left factor by rows and a right factor by depth: convolutions, and most products.
TENSOR = (
    Tile(128, 128, 16, 2, 4, 1, 4, 1.0),
    Tile(64, 128, 16, 1, 4, 1, 3, 0.85),
    Tile(64, 64, 16, 2, 2, 1, 4, 0.7),
    Tile(32, 128, 16, 1, 4, 1, 3, 0.6),
    Tile(16, 128, 16, 1, 4, 1, 3, 0.4),
    Tile(32, 32, 32, 1, 1, 4, 3, 0.35),
)
STRICT = (
    Tile(128, 128, 16, 4, 2, 1, 3, 1.0),
    Tile(64, 128, 16, 2, 2, 1, 3, 0.95),
    Tile(64, 64, 16, 2, 2, 1, 3, 0.8),
    Tile(32, 128, 16, 1, 4, 1, 3, 0.7),
    Tile(16, 128, 16, 1, 4, 1, 3, 0.5),
    Tile(32, 32, 32, 1, 1, 4, 3, 0.4),
)

# For both factors by rows, along positions: the gradient of a convolution by its weights.
TENSOR_WEIGHT = (
    Tile(128, 128, 32, 2, 4, 1, 3, 1.0),
    Tile(64, 64, 32, 2, 2, 1, 3, 0.7),
    Tile(32, 128, 32, 1, 4, 1, 3, 0.6),
    Tile(32, 64, 32, 1, 4, 1, 3, 0.5),
    Tile(16, 128, 32, 1, 4, 1, 3, 0.4),
    Tile(16, 32, 64, 1, 1, 4, 3, 0.25),
)
STRICT_WEIGHT = (
    Tile(128, 128, 32, 4, 2, 1, 2, 1.0),
    Tile(64, 64, 32, 2, 2, 1, 3, 0.8),
    Tile(32, 128, 32, 1, 4, 1, 3, 0.7),
    Tile(32, 64, 32, 2, 2, 1, 3, 0.6),
    Tile(16, 128, 32, 1, 4, 1, 3, 0.5),
    Tile(16, 32, 64, 1, 1, 4, 3, 0.3),
)


def choose(tiles: Iterable[Tile], rows: int, columns: int, batch: int = 1) -> Tile:
    """The tile for ``batch`` products of rows x columns results."""

    def cost(tile: Tile) -> float:
        count = batch * ceil(rows, tile.bm) * ceil(columns, tile.bn)
        return ceil(count, PROCESSORS) * tile.bm * tile.bn / tile.rate

    return min(tiles, key=cost)


def choose_sliced(tiles: Iterable[Tile], rows: int, columns: int) -> Tile:
    """The tile for a sum so long that slices of it occupy every processor anyway."""

    def cost(tile: Tile) -> float:
        return ceil(rows, tile.bm) * ceil(columns, tile.bn) * tile.bm * tile.bn / tile.rate

    return min(tiles, key=cost)


def slices(tile: Tile, blocks: int, depth: int, least: int) -> tuple[int, int]:
    """How many slices to cut a sum of ``depth`` terms into, and how long each is.

    As many as give every processor the blocks that 512 threads of it make, but none shorter than
    ``least`` terms.
    """
    wanted = ceil(PROCESSORS * max(512 // tile.threads, 1), blocks)
    length = max(ceil(depth, wanted), least)
    chunk = ceil(length, tile.bk) * tile.bk
    return max(ceil(depth, chunk), 1), chunk


def ceil(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)
