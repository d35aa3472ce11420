// Random masks that are never stored. Whether run i of the input survives is a hash of the key and
// i, so each thread finds its own answer, backward finds the same one again, and every kernel set
// draws the same mask.
//
// The hash is SplitMix64 (Steele, Lea & Flood 2014): run i mixes key + (i + 1) * golden, where
// golden is 2**64 divided by the golden ratio, made odd. A run is kept when the upper 32 bits are at
// least `threshold` = p * 2**32.
#include "common.cuh"

__device__ __forceinline__ bool kept(
    unsigned long long run, unsigned long long threshold, unsigned long long key
) {
    unsigned long long z = key + (run + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return ((z ^ (z >> 31)) >> 32) >= threshold;
}

extern "C" __global__ void __launch_bounds__(256) random_keep(
    unsigned char* __restrict__ keep, long long count, unsigned long long threshold, Key key
) {
    const unsigned long long start = read(key);
    const long long stride = (long long)gridDim.x * blockDim.x;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i < count; i += stride) {
        keep[i] = kept(i, threshold, start);
    }
}

// Runs of one number. A dropped number is multiplied by 0, so that NaN and infinity stay visible.
extern "C" __global__ void __launch_bounds__(256) dropout_each(
    const float* __restrict__ x, float* __restrict__ y, long long count, float scale,
    unsigned long long threshold, Key key
) {
    const unsigned long long start = read(key);
    const long long stride = (long long)gridDim.x * blockDim.x;
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long vectors = aligned(x) && aligned(y) ? count / 4 : 0;
    for (long long i = first; i < vectors; i += stride) {
        float4 v = reinterpret_cast<const float4*>(x)[i];
        v.x *= kept(4 * i, threshold, start) ? scale : 0.0f;
        v.y *= kept(4 * i + 1, threshold, start) ? scale : 0.0f;
        v.z *= kept(4 * i + 2, threshold, start) ? scale : 0.0f;
        v.w *= kept(4 * i + 3, threshold, start) ? scale : 0.0f;
        reinterpret_cast<float4*>(y)[i] = v;
    }
    for (long long i = 4 * vectors + first; i < count; i += stride) {
        y[i] = x[i] * (kept(i, threshold, start) ? scale : 0.0f);
    }
}

// x as (runs, unit); blockIdx.y and the blocks that share it walk through one run after the other.
extern "C" __global__ void __launch_bounds__(256) dropout_runs(
    const float* __restrict__ x, float* __restrict__ y, long long runs, long long unit,
    float scale, unsigned long long threshold, Key key
) {
    const unsigned long long start = read(key);
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long run = blockIdx.y; run < runs; run += gridDim.y) {
        const float factor = kept(run, threshold, start) ? scale : 0.0f;
        long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
        for (; i < unit; i += stride) {
            y[run * unit + i] = x[run * unit + i] * factor;
        }
    }
}
