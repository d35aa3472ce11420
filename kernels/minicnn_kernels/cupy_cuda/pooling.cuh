// A pooling window, and the two ways to look at it: from an output to its cells, and back.
#pragma once

#include "common.cuh"

struct Window {
    int h, w, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow;
    Divider by_sh, by_sw;
};

// Taps fit a byte unless a window has more than 256 cells.
#if WIDE_TAPS
typedef int Tap;
#else
typedef unsigned char Tap;
#endif

// Calls visit(tap, position on the map) for each cell of window (oh, ow) that lies on the map.
template <class F>
__device__ __forceinline__ void cells_of(const Window& win, int oh, int ow, F visit) {
    for (int i = 0; i < win.kh; ++i) {
        const int row = oh * win.sh - win.ph + i * win.dh;
        if ((unsigned)row >= (unsigned)win.h) {
            continue;
        }
        for (int j = 0; j < win.kw; ++j) {
            const int column = ow * win.sw - win.pw + j * win.dw;
            if ((unsigned)column < (unsigned)win.w) {
                visit(i * win.kw + j, row * win.w + column);
            }
        }
    }
}

// Calls visit(tap, position among the outputs) for each window that holds the cell. With i the tap's
// row, row + ph = oh * sh + i * dh: the last such window starts at or above the cell, and those
// before it reach down to it until i would be kh.
template <class F>
__device__ __forceinline__ void windows_over(const Window& win, int row, int column, F visit) {
    const int bottom = row + win.ph, right = column + win.pw;
    const int last_row = min(quotient(bottom, win.by_sh), win.oh - 1);
    const int last_column = min(quotient(right, win.by_sw), win.ow - 1);
    for (int oh = last_row; oh >= 0; --oh) {
        const int down = bottom - oh * win.sh;
        if (down > (win.kh - 1) * win.dh) {
            break;
        }
        if (win.dh > 1 && down % win.dh) {
            continue;
        }
        const int i = win.dh > 1 ? down / win.dh : down;
        for (int ow = last_column; ow >= 0; --ow) {
            const int across = right - ow * win.sw;
            if (across > (win.kw - 1) * win.dw) {
                break;
            }
            if (win.dw > 1 && across % win.dw) {
                continue;
            }
            const int j = win.dw > 1 ? across / win.dw : across;
            visit(i * win.kw + j, oh * win.ow + ow);
        }
    }
}

// Whether `value` takes the place of `best`: the first of equals stays, and NaN beats everything.
__device__ __forceinline__ bool wins(float value, float best) {
    return value > best || (value != value && best == best);
}

struct Winner {
    float value;
    int tap;
};

// The largest sign * x of a window; tap 0 and an infinity where none of its cells is on the map.
__device__ __forceinline__ Winner winner(
    const float* __restrict__ map, const Window& win, int oh, int ow, float sign
) {
    float best = -infinity();
    int tap = -1;
    cells_of(win, oh, ow, [&](int t, int cell) {
        const float value = sign * map[cell];
        if (tap < 0 || wins(value, best)) {
            best = value;
            tap = t;
        }
    });
    return {sign * best, tap < 0 ? 0 : tap};
}

// The usual window, 2x2 cells that share none: two loads of 8 bytes. `columns` is even.
__device__ __forceinline__ Winner winner_of_four(
    const float* __restrict__ corner, int columns, float sign
) {
    const float2 top = *reinterpret_cast<const float2*>(corner);
    const float2 low = *reinterpret_cast<const float2*>(corner + columns);
    const float value[4] = {sign * top.x, sign * top.y, sign * low.x, sign * low.y};
    Winner best = {value[0], 0};
#pragma unroll
    for (int t = 1; t < 4; ++t) {
        if (wins(value[t], best.value)) {
            best = {value[t], t};
        }
    }
    best.value *= sign;
    return best;
}

__device__ __forceinline__ Winner winner_at(
    const float* __restrict__ x, const Window& win, const Place& at, float sign, bool four
) {
    const float* map = x + (long long)at.plane * win.h * win.w;
    return four ? winner_of_four(map + 2 * (at.row * win.w + at.column), win.w, sign)
                : winner(map, win, at.row, at.column, sign);
}
