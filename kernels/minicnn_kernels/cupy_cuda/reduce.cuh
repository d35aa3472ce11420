// Sums over the threads of a warp and of a block, in an order that never changes.
//
// A float sum depends on its order, so atomics, which add in the order of arrival, would give other
// last bits in each run. In a warp the lanes exchange registers: after five rounds, each with the
// partner whose number differs in one bit, every lane holds the sum of all 32. A block adds the
// sums of its warps through shared memory.
#pragma once

constexpr unsigned ALL_LANES = 0xffffffffu;

template <class T>
__device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
    for (int apart = 16; apart; apart /= 2) {
        v += __shfl_xor_sync(ALL_LANES, v, apart);
    }
    return v;
}

// Every thread gets the sum. `part` is shared memory for one number of each warp; the first barrier
// lets those finish that still read it from the sum before.
template <class T>
__device__ __forceinline__ T block_sum(T v, T* part) {
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = v;
    }
    __syncthreads();
    T total = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) {
        total += part[warp];
    }
    return total;
}

// Of two numbers the larger; NaN counts as larger than all.
__device__ __forceinline__ float larger(float a, float b) { return a > b || a != a ? a : b; }

__device__ __forceinline__ float warp_largest(float v) {
#pragma unroll
    for (int apart = 16; apart; apart /= 2) {
        v = larger(v, __shfl_xor_sync(ALL_LANES, v, apart));
    }
    return v;
}

__device__ __forceinline__ float block_largest(float v, float* part) {
    v = warp_largest(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = v;
    }
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) {
        v = larger(v, part[warp]);
    }
    return v;
}
