// Convolution as a matrix product whose right factor is never stored (implicit GEMM; Chetlur et al.
// 2014, "cuDNN: Efficient primitives for deep learning", section 3).
//
// Unfolded, a convolution is y = w @ columns: row f of w holds the weights of a filter, column p of
// `columns` the pixels under one window, so that k counts channels and taps together. All images
// stand side by side: p runs over N * OH * OW, and small maps fill a tile as well as large ones.
// The columns would be KH * KW times the input. So a block reads what it needs of them straight
// from x into shared memory. Where each number lies is the sum of two entries of tables, see
// window.cuh: the loop along k has no division.
//
// The gradient by the input is the same sum the other way round. Pixel y of x has been met by tap i
// where (y + padding - i * dilation) is a multiple of the stride. Pixels with the same remainder,
// one class of stride * stride, are met by the same taps, at positions that move with them by one
// row or column of gy. So each class is a convolution of gy with stride 1 by a part of the weights
// (`turn_weights` picks and transposes them), and the same kernel runs it with tables of its own.
// Every gradient is written once: no atomic additions, the same bits in every run.
#include "tile.cuh"
#include "window.cuh"

struct Class {
    int position, positions;  // first of them in the table, and how many there are in one map
    int tap, depth;           // the same for taps, of all channels; a row of w has `depth` numbers
    int weights;              // start of this class in the weights of a group
    int unused[3];
};

struct Sizes {
    int images, rows;          // rows: filters of one group
    int in_image, in_group;    // numbers from one image or group of the input to the next
    int out_image, out_plane;  // and from one image or map of the output
    int groups, group_weights;
    int h, w;    // of the input's map
    int paired;  // whether two neighbours of the output may be written as one
    int relu;
};

__device__ __forceinline__ float finished(float sum, float scale, float shift, int relu) {
    const float value = sum * scale + shift;
    return relu && value < 0.0f ? 0.0f : value;  // not for a NaN
}

extern "C" __global__ void __launch_bounds__(THREADS) convolution(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ scale,
    const float* __restrict__ shift, float* __restrict__ y, const int* __restrict__ positions,
    const int* __restrict__ taps, const int* __restrict__ classes, Sizes s) {
    extern __shared__ __align__(16) float shared[];
    __shared__ long long target[BN];
    const int group = blockIdx.z % s.groups;
    const Class c = reinterpret_cast<const Class*>(classes)[blockIdx.z / s.groups];
    const int m0 = blockIdx.y * BM, n0 = blockIdx.x * BN, columns = s.images * c.positions;
    if (n0 >= columns) return;  // the classes differ in size
    const Position* position = reinterpret_cast<const Position*>(positions) + c.position;
    const Tap* tap = reinterpret_cast<const Tap*>(taps) + c.tap;

    for (int j = threadIdx.x; j < BN; j += THREADS) {
        const int n = n0 + j, image = n / c.positions;
        target[j] = n < columns ? static_cast<long long>(image) * s.out_image +
                                      position[n - image * c.positions].to
                                : -1;
    }

    constexpr int CHUNKS_B = BN / VEC_B, STEP_B = THREADS / CHUNKS_B;
    static_assert(THREADS % CHUNKS_B == 0 && BK % STEP_B == 0, "threads divide the columns");
    const int column = threadIdx.x % CHUNKS_B * VEC_B, first = threadIdx.x / CHUNKS_B;
    const float* source = x;
    int mask = NOWHERE;
    if (n0 + column < columns) {
        const int image = (n0 + column) / c.positions;
        const Position p = position[n0 + column - image * c.positions];
        source += static_cast<long long>(image) * s.in_image +
                  static_cast<long long>(group) * s.in_group + p.from;
        mask = p.mask;
    }
    constexpr int CHUNKS_A = BK / VEC_A;
    const float* weights = w + static_cast<long long>(group) * s.group_weights + c.weights;

    Tile tile;
    multiply_along((c.depth + BK - 1) / BK, shared, tile, [&](int step, float* a, float* b) {
        const int k0 = step * BK;
#pragma unroll
        for (int i = threadIdx.x; i < BM * CHUNKS_A; i += THREADS) {
            const int m = i / CHUNKS_A, k = i % CHUNKS_A * VEC_A;
            const bool valid = m0 + m < s.rows && k0 + k < c.depth;
            const int at = (m0 + m) * c.depth + k0 + k;
            copy<VEC_A>(a + OperandA::at(m, k), weights + (valid ? at : 0), valid);
        }
#pragma unroll
        for (int k = first; k < BK; k += STEP_B) {
            const Tap here = tap[k0 + k];
            const bool valid = on_map(mask, here.need, s.h, s.w);
            copy<VEC_B>(b + OperandB::at(column, k), valid ? source + here.offset : x, valid);
        }
    });
    if (c.depth == 0) __syncthreads();  // no step has waited for the targets
    if (!join(shared, tile)) return;

    float* out = y + static_cast<long long>(group) * s.rows * s.out_plane;
#pragma unroll
    for (int e = 0; e < Tile::COUNT; e += 2) {
        const int m = m0 + tile.row(e), f = group * s.rows + m;
        if (m >= s.rows) continue;
        const float by = scale ? scale[f] : 1.0f, plus = shift ? shift[f] : 0.0f;
        const float one = finished(tile.sums[e], by, plus, s.relu);
        const float two = finished(tile.sums[e + 1], by, plus, s.relu);
        const long long to = target[tile.column(e)], to_two = target[tile.column(e + 1)];
        float* map = out + static_cast<long long>(m) * s.out_plane;
        if (s.paired && to >= 0) {
            *reinterpret_cast<float2*>(map + to) = make_float2(one, two);
        } else {
            if (to >= 0) map[to] = one;
            if (to_two >= 0) map[to_two] = two;
        }
    }
}
