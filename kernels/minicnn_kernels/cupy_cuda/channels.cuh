// Sums over all cells of a channel of x (N, C, cells), for batch normalisation.
//
// The cells of a channel are cut into `gridDim.y` slices whose bounds depend on the sizes alone. One
// block sums a slice and writes what it found; a warp for each channel then adds the slices in
// order. Two runs, and two devices, thus give the same bits.
//
// Where a map has fewer cells than a warp has lanes (after a fully connected layer: one), threads
// along a map would touch memory far apart. There x is read as a matrix (N, C * cells): threads
// along a row, each adding up its own column, and a channel then has slices * cells parts.
#pragma once

#include "common.cuh"
#include "reduce.cuh"

constexpr int CHANNEL_THREADS = 256;
constexpr int COLUMN_LANES = 32;
constexpr int COLUMN_ROWS = 8;

struct Range {
    long long begin, end;
};

// The part of `total` that belongs to slice blockIdx.y.
__device__ __forceinline__ Range slice_of(long long total) {
    const long long share = (total + gridDim.y - 1) / gridDim.y;
    const long long begin = blockIdx.y * share;
    return {begin, begin + share < total ? begin + share : total};
}

// Calls visit(position) for each run of W cells of channel blockIdx.x that this thread has to add.
template <int W, class F>
__device__ __forceinline__ void along_channel(int N, int C, int cells, F visit) {
    const int columns = cells / W;
    const Range slice = slice_of((long long)N * columns);
    long long i = slice.begin + threadIdx.x;
    int n = (int)(i / columns), column = (int)(i % columns);
    const int n_step = CHANNEL_THREADS / columns, column_step = CHANNEL_THREADS % columns;
#pragma unroll 4
    for (; i < slice.end; i += CHANNEL_THREADS) {
        visit(((long long)n * C + blockIdx.x) * cells + W * column);
        column += column_step;
        const int carry = column >= columns;
        column -= carry ? columns : 0;
        n += n_step + carry;
    }
}

// Calls visit(position) for each number of column blockIdx.x * 32 + threadIdx.x in this thread's
// rows of the slice.
template <class F>
__device__ __forceinline__ void along_column(int N, int columns, F visit) {
    const int column = blockIdx.x * COLUMN_LANES + threadIdx.x;
    const Range slice = slice_of(N);
    if (column < columns) {
        for (long long n = slice.begin + threadIdx.y; n < slice.end; n += COLUMN_ROWS) {
            visit(n * columns + column);
        }
    }
}

// Where part `k` of channel c lies among the parts (slices, C, spread).
__device__ __forceinline__ long long part_of(int k, int c, int C, int spread) {
    return ((long long)(k / spread) * C + c) * spread + k % spread;
}

template <int W>
__device__ __forceinline__ void load(const float* __restrict__ from, float (&v)[W]) {
    if constexpr (W == 4) {
        const float4 four = *reinterpret_cast<const float4*>(from);
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
    } else {
        v[0] = *from;
    }
}

template <int W>
__device__ __forceinline__ void store(float* __restrict__ to, const float (&v)[W]) {
    if constexpr (W == 4) {
        *reinterpret_cast<float4*>(to) = {v[0], v[1], v[2], v[3]};
    } else {
        *to = v[0];
    }
}

// What batch norm does to a channel: y = (x - mean) * factor + shift, factor = w * inv.
struct Channel {
    float mean, inv, factor, shift;
};

struct Statistics {
    const float* mean;
    const float* var;
    const float* w;  // or null: 1
    const float* b;  // or null: 0
    float eps;
};

__device__ __forceinline__ Channel channel(const Statistics& s, int c) {
    const float inv = 1.0f / sqrtf(s.var[c] + s.eps);
    return {s.mean[c], inv, s.w ? inv * s.w[c] : inv, s.b ? s.b[c] : 0.0f};
}

// Written as one fused operation, so that every kernel finds the same sign before ReLU.
__device__ __forceinline__ float normalised(const Channel& c, float x) {
    return fmaf(x - c.mean, c.factor, c.shift);
}

__device__ __forceinline__ float relu_of(float v) { return v < 0.0f ? 0.0f : v; }
