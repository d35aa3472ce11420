// Where a window's numbers lie: what convolution.cu and convolution_weight.cu share.
//
// Number (k, p) of the columns, tap k of the window at position p, lies at
//     start of image and group + positions[p].from + taps[k].offset
// where a tap counts channels as well. Whether it lies on the map or in the padding is told by
// bits: positions[p].mask has bit i set where row i of the window is on the map, and bit 16 + j
// where its column j is; taps[k].need is the two bits of tap k. With more than 15 rows or columns
// of taps (LARGE) the bits do not suffice, and both hold a row in their upper and a column in their
// lower half, whose sums are compared with the size of the map.
//
// Both tables are made once for a geometry. They end in taps that no mask satisfies, so that the
// loops need not ask where the taps end.
#pragma once

struct __align__(16) Position {
    int from;  // where the window starts, within its channel; may lie before it
    int mask;
    int to;  // where the result goes, within its map
    int unused;
};

struct __align__(8) Tap {
    int offset;
    int need;
};

// The mask of a position beyond the last one.
#if LARGE
constexpr int NOWHERE = 16384 << 16;
#else
constexpr int NOWHERE = 0;
#endif

__device__ __forceinline__ bool on_map(int mask, int need, int h, int w) {
#if LARGE
    const int row = (mask >> 16) + (need >> 16);
    const int column = static_cast<short>(mask) + static_cast<short>(need);
    return row >= 0 && row < h && column >= 0 && column < w;
#else
    return (mask & need) == need;
#endif
}
