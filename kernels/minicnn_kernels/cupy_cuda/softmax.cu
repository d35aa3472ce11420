// Softmax, its logarithm and the cross-entropy loss along the rows of (rows, K).
//
// A team of threads shares a row: a warp where it is short, as the logits of a classifier are, and a
// block of 256 where it is long. The row is read again for each of its passes (largest, sum,
// result), the second time from cache. All exponents are at most 0 after the shift by the largest,
// so nothing overflows. A NaN, or an infinity as the largest, makes its whole row NaN.
#include "common.cuh"
#include "reduce.cuh"

#define BLOCK 256

struct Warp {
    static constexpr int SIZE = 32;

    __device__ static __forceinline__ int row() { return blockIdx.x * (BLOCK / 32) + threadIdx.x / 32; }
    __device__ static __forceinline__ int rank() { return threadIdx.x % 32; }
    __device__ static __forceinline__ float sum(float v, float*) { return warp_sum(v); }
    __device__ static __forceinline__ float largest(float v, float*) { return warp_largest(v); }
};

struct Block {
    static constexpr int SIZE = BLOCK;

    __device__ static __forceinline__ int row() { return blockIdx.x; }
    __device__ static __forceinline__ int rank() { return threadIdx.x; }
    __device__ static __forceinline__ float sum(float v, float* part) { return block_sum(v, part); }
    __device__ static __forceinline__ float largest(float v, float* part) {
        return block_largest(v, part);
    }
};

template <class Team, class F>
__device__ __forceinline__ void each(int K, F visit) {
    for (int k = Team::rank(); k < K; k += Team::SIZE) {
        visit(k);
    }
}

template <class Team, class F>
__device__ __forceinline__ float total(int K, float* part, F term) {
    float sum = 0.0f;
    each<Team>(K, [&](int k) { sum += term(k); });
    return Team::sum(sum, part);
}

template <class Team>
__device__ __forceinline__ float largest_of(const float* __restrict__ x, int K, float* part) {
    float largest = -infinity();
    each<Team>(K, [&](int k) { largest = larger(largest, x[k]); });
    return Team::largest(largest, part);
}

template <class Team>
__device__ __forceinline__ void softmax_row(
    const float* __restrict__ x, float* __restrict__ y, int rows, int K, float* part
) {
    if (Team::row() >= rows) {
        return;
    }
    const long long first = (long long)Team::row() * K;
    const float top = largest_of<Team>(x + first, K, part);
    const float sum = total<Team>(K, part, [&](int k) { return expf(x[first + k] - top); });
    each<Team>(K, [&](int k) { y[first + k] = expf(x[first + k] - top) / sum; });
}

template <class Team>
__device__ __forceinline__ void log_softmax_row(
    const float* __restrict__ x, float* __restrict__ y, int rows, int K, float* part
) {
    if (Team::row() >= rows) {
        return;
    }
    const long long first = (long long)Team::row() * K;
    const float top = largest_of<Team>(x + first, K, part);
    const float sum = total<Team>(K, part, [&](int k) { return expf(x[first + k] - top); });
    const float log_sum = logf(sum);
    each<Team>(K, [&](int k) { y[first + k] = (x[first + k] - top) - log_sum; });
}

template <class Team>
__device__ __forceinline__ void softmax_grad_row(
    const float* __restrict__ gy, const float* __restrict__ y, float* __restrict__ gx, int rows,
    int K, float* part
) {
    if (Team::row() >= rows) {
        return;
    }
    const long long first = (long long)Team::row() * K;
    const float sum = total<Team>(K, part, [&](int k) { return gy[first + k] * y[first + k]; });
    each<Team>(K, [&](int k) { gx[first + k] = y[first + k] * (gy[first + k] - sum); });
}

template <class Team>
__device__ __forceinline__ void log_softmax_grad_row(
    const float* __restrict__ gy, const float* __restrict__ y, float* __restrict__ gx, int rows,
    int K, float* part
) {
    if (Team::row() >= rows) {
        return;
    }
    const long long first = (long long)Team::row() * K;
    const float sum = total<Team>(K, part, [&](int k) { return gy[first + k]; });
    each<Team>(K, [&](int k) { gx[first + k] = gy[first + k] - expf(y[first + k]) * sum; });
}

template <class Team>
__device__ __forceinline__ void cross_entropy_row(
    const float* __restrict__ x, const float* __restrict__ q, float* __restrict__ loss,
    float* __restrict__ p, int rows, int K, float* part
) {
    if (Team::row() >= rows) {
        return;
    }
    const long long first = (long long)Team::row() * K;
    const float top = largest_of<Team>(x + first, K, part);
    const float sum = total<Team>(K, part, [&](int k) { return expf(x[first + k] - top); });
    const float log_sum = logf(sum);
    const float gain = total<Team>(K, part, [&](int k) {
        const float log_p = (x[first + k] - top) - log_sum, weight = q[first + k];
        p[first + k] = expf(log_p);
        return weight == 0.0f ? 0.0f : weight * log_p;
    });
    if (Team::rank() == 0) {
        loss[Team::row()] = -gain;
    }
}

template <class Team>
__device__ __forceinline__ void cross_entropy_grad_row(
    const float* __restrict__ gloss, const float* __restrict__ p, const float* __restrict__ q,
    float* __restrict__ gx, int rows, int K, float* part
) {
    if (Team::row() >= rows) {
        return;
    }
    const long long first = (long long)Team::row() * K;
    const float g = gloss[Team::row()];
    const float sum = total<Team>(K, part, [&](int k) { return q[first + k]; });
    each<Team>(K, [&](int k) { gx[first + k] = g * (p[first + k] * sum - q[first + k]); });
}

extern "C" __global__ void __launch_bounds__(256) softmax(
    const float* __restrict__ x, float* __restrict__ y, int rows, int K, int by_block
) {
    __shared__ float part[BLOCK / 32];
    by_block ? softmax_row<Block>(x, y, rows, K, part) : softmax_row<Warp>(x, y, rows, K, part);
}

extern "C" __global__ void __launch_bounds__(256) log_softmax(
    const float* __restrict__ x, float* __restrict__ y, int rows, int K, int by_block
) {
    __shared__ float part[BLOCK / 32];
    by_block ? log_softmax_row<Block>(x, y, rows, K, part)
             : log_softmax_row<Warp>(x, y, rows, K, part);
}

extern "C" __global__ void __launch_bounds__(256) softmax_grad(
    const float* __restrict__ gy, const float* __restrict__ y, float* __restrict__ gx, int rows,
    int K, int by_block
) {
    __shared__ float part[BLOCK / 32];
    by_block ? softmax_grad_row<Block>(gy, y, gx, rows, K, part)
             : softmax_grad_row<Warp>(gy, y, gx, rows, K, part);
}

extern "C" __global__ void __launch_bounds__(256) log_softmax_grad(
    const float* __restrict__ gy, const float* __restrict__ y, float* __restrict__ gx, int rows,
    int K, int by_block
) {
    __shared__ float part[BLOCK / 32];
    by_block ? log_softmax_grad_row<Block>(gy, y, gx, rows, K, part)
             : log_softmax_grad_row<Warp>(gy, y, gx, rows, K, part);
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy(
    const float* __restrict__ x, const float* __restrict__ q, float* __restrict__ loss,
    float* __restrict__ p, int rows, int K, int by_block
) {
    __shared__ float part[BLOCK / 32];
    by_block ? cross_entropy_row<Block>(x, q, loss, p, rows, K, part)
             : cross_entropy_row<Warp>(x, q, loss, p, rows, K, part);
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy_grad(
    const float* __restrict__ gloss, const float* __restrict__ p, const float* __restrict__ q,
    float* __restrict__ gx, int rows, int K, int by_block
) {
    __shared__ float part[BLOCK / 32];
    by_block ? cross_entropy_grad_row<Block>(gloss, p, q, gx, rows, K, part)
             : cross_entropy_grad_row<Warp>(gloss, p, q, gx, rows, K, part);
}
