// The product of two matrices that lie plainly in memory: C = alpha * A @ B, plus a number for each
// column (a bias) or what C held before. See tile.cuh for how a tile is multiplied.
//
// A_BY_ROWS says that the K numbers of a row of A are neighbours in memory, and B_BY_ROWS the same
// of a column of B; so the four combinations are the four ways to transpose. Neither operand is
// rearranged: each is copied along whatever is contiguous, 16 bytes at a time where the sizes allow
// (VEC = 4), and lies in shared memory as it came.
//
// Where C is small and K long, K is cut into slices, each with a block of its own. Their sums go to
// memory of their own, and `add_slices` of sums.cu adds them in a fixed order.
#include "tile.cuh"

struct Sizes {
    int m, n, k;
    int row_a, row_b;  // numbers from one row of what is stored to the next
    int slices, chunk;
    long long batch_a, batch_b, batch_c;
    float alpha;
    int accumulate;
};

// Copy one step of an operand: `rows` x `depth` numbers are there, from row r0 and depth k0 on.
template <class Place, int ROWS, bool BY_ROWS, int VEC>
__device__ __forceinline__ void load(float* to, const float* __restrict__ from, int r0, int k0,
                                     int rows, int depth, int stride) {
    constexpr int ALONG = (BY_ROWS ? BK : ROWS) / VEC, COUNT = ALONG * (BY_ROWS ? ROWS : BK);
#pragma unroll
    for (int i = threadIdx.x; i < COUNT; i += THREADS) {
        const int along = i % ALONG * VEC, across = i / ALONG;
        const int r = BY_ROWS ? across : along, k = BY_ROWS ? along : across;
        const bool valid = r0 + r < rows && k0 + k < depth;
        const long long at = BY_ROWS ? static_cast<long long>(r0 + r) * stride + k0 + k
                                     : static_cast<long long>(k0 + k) * stride + r0 + r;
        copy<VEC>(to + Place::at(r, k), from + (valid ? at : 0), valid);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gemm(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias,
         float* __restrict__ c, Sizes s) {
    extern __shared__ __align__(16) float shared[];
    const int slice = blockIdx.z % s.slices;
    const long long batch = blockIdx.z / s.slices;
    const int m0 = blockIdx.y * BM, n0 = blockIdx.x * BN, begin = slice * s.chunk;
    const int end = s.chunk < s.k - begin ? begin + s.chunk : s.k;
    const float* from_a = a + batch * s.batch_a;
    const float* from_b = b + batch * s.batch_b;

    Tile tile;
    const int steps = (end - begin + BK - 1) / BK;
    multiply_along(steps, shared, tile, [&](int step, float* to_a, float* to_b) {
        const int k0 = begin + step * BK;
        load<OperandA, BM, A_BY_ROWS, VEC_A>(to_a, from_a, m0, k0, s.m, end, s.row_a);
        load<OperandB, BN, B_BY_ROWS, VEC_B>(to_b, from_b, n0, k0, s.n, end, s.row_b);
    });
    if (!join(shared, tile)) return;

    float* out = c + batch * s.batch_c + static_cast<long long>(slice) * s.m * s.n;
#pragma unroll
    for (int e = 0; e < Tile::COUNT; e++) {
        const int m = m0 + tile.row(e), n = n0 + tile.column(e);
        if (m >= s.m || n >= s.n) continue;
        float* place = out + static_cast<long long>(m) * s.n + n;
        float value = s.alpha * tile.sums[e];
        if (bias) value += bias[n];
        *place = s.accumulate ? *place + value : value;
    }
}
