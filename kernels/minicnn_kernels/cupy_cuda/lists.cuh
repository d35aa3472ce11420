// Many arrays in one launch. A network has tens to hundreds of parameters, most of them a few
// numbers; a launch for each would cost more than the work. Their addresses and sizes travel in the
// arguments of the kernel, which hold 4 kB, and the blocks are dealt out to the arrays: block b
// serves the last array whose first block is not beyond b, found by bisection.
#pragma once

#include "common.cuh"

constexpr int MANY = 80;      // arrays in a launch
constexpr int CHUNK = 4096;   // numbers of an array that a block serves
constexpr int ROLES = 4;      // arrays that belong together: parameter, gradient, moments

struct Lists {
    float* at[ROLES][MANY];
    long long size[MANY];
    int first_block[MANY + 1];
    int count;
};

__device__ __forceinline__ int array_of_block(const Lists& lists) {
    int low = 0, high = lists.count;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (lists.first_block[middle] <= (int)blockIdx.x ? low : high) = middle;
    }
    return low;
}

// Calls update(v) with the numbers of the first `COUNT` roles at each place of this block's chunk,
// and stores what it leaves there. The second role is a gradient and only read; with `STORE` false
// nothing is stored.
template <int COUNT, bool STORE, class F>
__device__ __forceinline__ void along_chunk(const Lists& lists, F update) {
    const int array = array_of_block(lists);
    const long long begin = (long long)(blockIdx.x - lists.first_block[array]) * CHUNK;
    const long long left = lists.size[array] - begin;
    const int count = (int)(left < CHUNK ? left : CHUNK);
    float* at[COUNT];
    bool wide = true;
#pragma unroll
    for (int role = 0; role < COUNT; ++role) {
        at[role] = lists.at[role][array] + begin;
        wide = wide && aligned(at[role]);
    }
    const int vectors = wide ? count / 4 : 0;
    for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
        float4 four[COUNT];
#pragma unroll
        for (int role = 0; role < COUNT; ++role) {
            four[role] = reinterpret_cast<const float4*>(at[role])[i];
        }
        float x[COUNT], y[COUNT], z[COUNT], w[COUNT];
#pragma unroll
        for (int role = 0; role < COUNT; ++role) {
            x[role] = four[role].x, y[role] = four[role].y;
            z[role] = four[role].z, w[role] = four[role].w;
        }
        update(x), update(y), update(z), update(w);
#pragma unroll
        for (int role = 0; role < COUNT; ++role) {
            if (STORE && role != 1) {
                reinterpret_cast<float4*>(at[role])[i] = {x[role], y[role], z[role], w[role]};
            }
        }
    }
    for (int i = 4 * vectors + threadIdx.x; i < count; i += blockDim.x) {
        float v[COUNT];
#pragma unroll
        for (int role = 0; role < COUNT; ++role) {
            v[role] = at[role][i];
        }
        update(v);
#pragma unroll
        for (int role = 0; role < COUNT; ++role) {
            if (STORE && role != 1) {
                at[role][i] = v[role];
            }
        }
    }
}
