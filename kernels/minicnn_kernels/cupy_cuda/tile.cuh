// One tile of a matrix product: what convolution.cu, convolution_weight.cu and gemm.cu share.
//
// A block of threads computes BM x BN elements of C = A @ B, where A is (M, K) and B is (K, N). It
// goes along K in steps of BK. Each step needs BM x BK numbers of A and BK x BN numbers of B, which
// come into shared memory by copies that run ahead: STAGES steps have a place of their own, so that
// while one is multiplied the next STAGES - 1 are on their way from memory. How those numbers are
// found (a plain matrix, or the window of a convolution) is the only difference between the three
// files; each passes a `load` that starts the copies of one step.
//
// Warps: WARPS_M x WARPS_N of them share the tile. Where a tile is too small for that many, WARPS_K
// groups take different parts of each step, and their sums are added at the end, always in the same
// order, so that the result has the same bits in every run.
//
// An operand lies in shared memory as its source delivers it: by rows (the K numbers of one row of
// A or one column of B together) or by depth (the rows of one k together). Its rows are padded so
// that the 32 threads of a warp, reading a fragment, meet 32 different banks: by rows with a stride
// of BK + 4 (bank 4g + t or 20g + t, all different for g < 8, t < 4), by depth with one that is 8
// or 24 modulo 32 (bank 8t + g or 24t + g).
//
// TF32 = 1 multiplies on the tensor cores. TF32 = 0 is strict float32: each thread keeps a small
// tile of sums in registers, so that a number read from shared memory is used several times.
#pragma once

#include "mma.cuh"

constexpr int GROUP = 32 * WARPS_M * WARPS_N;  // threads that share one part of each step
constexpr int THREADS = GROUP * WARPS_K;
constexpr int RESIDENT = 512 / THREADS;  // blocks a processor must hold: 128 registers a thread
constexpr int DEPTH = BK / WARPS_K;  // of a step, for one group
static_assert(DEPTH % 8 == 0, "a group multiplies 8 at a time");

// Where row r (of A; column of B), depth k of an operand lies within its stage.
template <int ROWS, bool BY_ROWS>
struct Operand {
    static constexpr bool IS_BY_ROWS = BY_ROWS;
    static constexpr int STRIDE = BY_ROWS ? BK + 4 : ROWS + 8;
    static constexpr int SIZE = BY_ROWS ? ROWS * STRIDE : BK * STRIDE;
    __device__ static int at(int r, int k) { return BY_ROWS ? r * STRIDE + k : k * STRIDE + r; }
};

using OperandA = Operand<BM, A_BY_ROWS>;
using OperandB = Operand<BN, B_BY_ROWS>;
constexpr int STAGE = OperandA::SIZE + OperandB::SIZE;
static_assert((WARPS_K - 1) * BM * BN <= STAGES * STAGE, "the sums of the groups need room");

#if TF32

struct Tile {
    static constexpr int HIGH = BM / WARPS_M / 16, WIDE = BN / WARPS_N / 8;
    static constexpr int COUNT = HIGH * WIDE * 4;
    static constexpr bool PAIRS = true;  // elements e and e + 1 (e even) are neighbours in a row
    static_assert(HIGH * 16 * WARPS_M == BM && WIDE * 8 * WARPS_N == BN, "warps cover the tile");

    float sums[COUNT];
    int top, left, g, t, begin;

    __device__ Tile() {
        const int warp = threadIdx.x % GROUP / 32, lane = threadIdx.x % 32;
        g = lane / 4;
        t = lane % 4;
        top = warp / WARPS_N * (HIGH * 16);
        left = warp % WARPS_N * (WIDE * 8);
        begin = threadIdx.x / GROUP * DEPTH;
#pragma unroll
        for (int e = 0; e < COUNT; e++) sums[e] = 0.0f;
    }

    __device__ int row(int e) const { return top + e / (WIDE * 4) * 16 + g + e % 4 / 2 * 8; }
    __device__ int column(int e) const { return left + e / 4 % WIDE * 8 + 2 * t + e % 2; }

    // The addresses of a large tile of two operands by rows would spill from an unrolled loop.
    static constexpr bool CROWDED = COUNT >= 64 && OperandA::IS_BY_ROWS && OperandB::IS_BY_ROWS;
    static constexpr int UNROLLED = CROWDED ? 1 : DEPTH / 8;

    __device__ __forceinline__ void multiply(const float* a, const float* b) {
#pragma unroll UNROLLED
        for (int step = 0; step < DEPTH; step += 8) {
            const int k = begin + step + t;
            unsigned as[HIGH][4], bs[WIDE][2];
#pragma unroll
            for (int i = 0; i < HIGH; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    as[i][j] = cvt_tf32(
                        a[OperandA::at(top + i * 16 + g + j % 2 * 8, k + j / 2 * 4)]);
#pragma unroll
            for (int i = 0; i < WIDE; i++)
#pragma unroll
                for (int j = 0; j < 2; j++)
                    bs[i][j] = cvt_tf32(b[OperandB::at(left + i * 8 + g, k + j * 4)]);
#pragma unroll
            for (int i = 0; i < HIGH; i++)
#pragma unroll
                for (int j = 0; j < WIDE; j++) {
                    float* c = sums + (i * WIDE + j) * 4;
                    mma_m16n8k8_tf32(c, as[i], bs[j], c);
                }
        }
    }
};

#else

// The 32 threads of a warp stand 4 high and 8 wide. By rows a thread's elements are a stride apart,
// by depth they come in runs of four that one instruction reads.
struct Tile {
    static constexpr int DOWN = 4 * WARPS_M, ACROSS = 8 * WARPS_N;
    static constexpr int HIGH = BM / DOWN, WIDE = BN / ACROSS;
    static constexpr int COUNT = HIGH * WIDE;
    static constexpr bool PAIRS = !B_BY_ROWS;
    static_assert(HIGH * DOWN == BM && WIDE * ACROSS == BN, "threads cover the tile");
    static_assert(A_BY_ROWS || HIGH % 4 == 0, "runs of four");
    static_assert(B_BY_ROWS || WIDE % 4 == 0, "runs of four");

    float sums[COUNT];
    int top, left, begin;

    __device__ Tile() {
        const int warp = threadIdx.x % GROUP / 32, lane = threadIdx.x % 32;
        top = warp / WARPS_N * 4 + lane / 8;
        left = warp % WARPS_N * 8 + lane % 8;
        begin = threadIdx.x / GROUP * DEPTH;
#pragma unroll
        for (int e = 0; e < COUNT; e++) sums[e] = 0.0f;
    }

    template <bool BY_ROWS, int STEP>
    __device__ static int place(int first, int i) {
        return BY_ROWS ? first + STEP * i : 4 * (first + STEP * (i / 4)) + i % 4;
    }
    __device__ int row(int e) const { return place<A_BY_ROWS, DOWN>(top, e / WIDE); }
    __device__ int column(int e) const { return place<B_BY_ROWS, ACROSS>(left, e % WIDE); }

    template <class Place, bool BY_ROWS, int STEP, int LENGTH>
    __device__ static void read(float* to, const float* from, int first, int k) {
        if (BY_ROWS) {
#pragma unroll
            for (int i = 0; i < LENGTH; i++) to[i] = from[Place::at(first + STEP * i, k)];
        } else {
#pragma unroll
            for (int i = 0; i < LENGTH; i += 4) {
                const float4 four = *reinterpret_cast<const float4*>(
                    from + Place::at(place<BY_ROWS, STEP>(first, i), k));
                to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
            }
        }
    }

    __device__ __forceinline__ void multiply(const float* a, const float* b) {
#pragma unroll (COUNT >= 64 ? 1 : 4)
        for (int step = 0; step < DEPTH; step++) {
            float as[HIGH], bs[WIDE];
            read<OperandA, A_BY_ROWS, DOWN, HIGH>(as, a, top, begin + step);
            read<OperandB, B_BY_ROWS, ACROSS, WIDE>(bs, b, left, begin + step);
#pragma unroll
            for (int i = 0; i < HIGH; i++)
#pragma unroll
                for (int j = 0; j < WIDE; j++) sums[i * WIDE + j] += as[i] * bs[j];
        }
    }
};

#endif

// Go along K: load(step, a, b) starts this thread's copies of one step into a stage.
//
// The copies of step s + STAGES - 1 go into the stage that step s - 1 was multiplied from. They are
// started after the barrier of step s, when no warp is in step s - 1 any more; so one barrier a
// step is enough. A group is closed even where nothing is left to load, so that the count of groups
// under way always means the same steps.
template <class Load>
__device__ __forceinline__ void multiply_along(int steps, float* shared, Tile& tile, Load load) {
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) load(s, shared + s * STAGE, shared + s * STAGE + OperandA::SIZE);
        cp_async_commit();
    }
    int now = 0, next = STAGES - 1;
    for (int s = 0; s < steps; s++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < steps)
            load(s + STAGES - 1, shared + next * STAGE, shared + next * STAGE + OperandA::SIZE);
        cp_async_commit();
        tile.multiply(shared + now * STAGE, shared + now * STAGE + OperandA::SIZE);
        now = now + 1 < STAGES ? now + 1 : 0;
        next = next + 1 < STAGES ? next + 1 : 0;
    }
}

// Add up the groups of warps that took different parts of K; true for the group that has the sum.
__device__ __forceinline__ bool join(float* shared, Tile& tile) {
    if (WARPS_K == 1) return true;
    const int group = threadIdx.x / GROUP, place = threadIdx.x % GROUP;
    __syncthreads();  // the stages are free
    if (group > 0)
#pragma unroll
        for (int e = 0; e < Tile::COUNT; e++)
            shared[((group - 1) * Tile::COUNT + e) * GROUP + place] = tile.sums[e];
    __syncthreads();
    if (group > 0) return false;
    for (int other = 0; other < WARPS_K - 1; other++)
#pragma unroll
        for (int e = 0; e < Tile::COUNT; e++)
            tile.sums[e] += shared[(other * Tile::COUNT + e) * GROUP + place];
    return true;
}

// Four numbers or one, as the source allows.
template <int COUNT>
__device__ __forceinline__ void copy(float* shared, const float* global, bool valid) {
    if (COUNT == 4)
        cp_async_16(shared, global, valid);
    else
        cp_async_4(shared, global, valid);
}
