// The gradient of a convolution by its weights, as a matrix product: see convolution.cu first.
//
// gw = gy @ columns^T: the sum over all positions p of all images, of which a batch has many (a
// hundred thousand), while gw is small. So the sum is cut into slices, a block for each, to occupy
// the whole device; the slices depend on the sizes alone, and `add_slices` of sums.cu adds them up
// in their order: the same bits in every run.
//
// Here p is what the loop runs along. Within one image both gy and the columns have neighbouring p
// side by side in memory, so both operands lie by rows, the threads of a warp along p.
#include "tile.cuh"
#include "window.cuh"

struct Sizes {
    int groups, rows, columns;       // of one group: filters; channels times taps
    int plane, depth, chunk;         // positions of one map, of all, and of one slice
    int in_image, in_group;          // numbers from one image or group of x to the next
    int out_image;                   // and from one image of gy
    int h, w;                        // of x's map
};

extern "C" __global__ void __launch_bounds__(THREADS) convolution_weight(
    const float* __restrict__ gy, const float* __restrict__ x, float* __restrict__ sums,
    const int* __restrict__ positions, const int* __restrict__ taps, Sizes s) {
    extern __shared__ __align__(16) float shared[];
    const int group = blockIdx.z % s.groups, slice = blockIdx.z / s.groups;
    const int m0 = blockIdx.y * BM, n0 = blockIdx.x * BN;
    const int begin = slice * s.chunk;
    const int end = s.chunk < s.depth - begin ? begin + s.chunk : s.depth;
    const Position* position = reinterpret_cast<const Position*>(positions);
    const Tap* tap = reinterpret_cast<const Tap*>(taps) + n0;
    const float* from_gy = gy + (static_cast<long long>(group) * s.rows + m0) * s.plane;
    const float* from_x = x + static_cast<long long>(group) * s.in_group;

    constexpr int CHUNKS_A = BK / VEC_A, CHUNKS_B = BK / VEC_B;
    static_assert(THREADS % CHUNKS_A == 0 && THREADS % CHUNKS_B == 0, "threads divide a step");
    const int a_k = threadIdx.x % CHUNKS_A * VEC_A, a_first = threadIdx.x / CHUNKS_A;
    const int b_k = threadIdx.x % CHUNKS_B * VEC_B, b_first = threadIdx.x / CHUNKS_B;

    Tile tile;
    multiply_along((end - begin + BK - 1) / BK, shared, tile, [&](int step, float* a, float* b) {
        const int a_p = begin + step * BK + a_k, a_image = a_p / s.plane;
        const float* a_from = from_gy + static_cast<long long>(a_image) * s.out_image +
                              (a_p - a_image * s.plane);
#pragma unroll
        for (int m = a_first; m < BM; m += THREADS / CHUNKS_A) {
            const bool valid = a_p < end && m0 + m < s.rows;
            copy<VEC_A>(a + OperandA::at(m, a_k), valid ? a_from + m * s.plane : gy, valid);
        }
        const int b_p = begin + step * BK + b_k, b_image = b_p / s.plane;
        const float* b_from = from_x + static_cast<long long>(b_image) * s.in_image;
        int mask = NOWHERE;
        if (b_p < end) {
            const Position p = position[b_p - b_image * s.plane];
            b_from += p.from;
            mask = p.mask;
        }
#pragma unroll
        for (int n = b_first; n < BN; n += THREADS / CHUNKS_B) {
            const Tap here = tap[n];
            const bool valid = on_map(mask, here.need, s.h, s.w);
            copy<VEC_B>(b + OperandB::at(n, b_k), valid ? b_from + here.offset : x, valid);
        }
    });
    if (!join(shared, tile)) return;

    float* out = sums + static_cast<long long>(blockIdx.z) * s.rows * s.columns;
#pragma unroll
    for (int e = 0; e < Tile::COUNT; e++) {
        const int m = m0 + tile.row(e), n = n0 + tile.column(e);
        if (m < s.rows && n < s.columns)
            out[static_cast<long long>(m) * s.columns + n] = tile.sums[e];
    }
}
