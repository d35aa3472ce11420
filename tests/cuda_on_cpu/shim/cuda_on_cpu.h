// CUDA C++ for g++: what a kernel file may name, in terms of one fiber per thread.
//
// A CUDA thread is a fiber: a stack of its own that runs until it ends or has to wait. Only one
// fiber runs at any time, so a plain global variable can say which thread is running, and "shared
// memory" is a plain static variable that is filled with 0xFF (NaN) before each block. Waiting,
// at __syncthreads or at a warp operation, hands control back to the scheduler in runtime.cpp.
//
// A warp operation (shuffle, vote, mma) is a meeting at a board: each lane writes what it brings,
// waits for the others, reads what it needs, and waits again so that nobody wipes the board early.
#pragma once

#include <cassert>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

// The run-time compiler knows neither of these, so a kernel must not use them.
#undef INFINITY
#undef NAN
#undef HUGE_VAL

#define __host__
#define __device__
#define __global__
#define __constant__ static
#define __managed__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#define __grid_constant__
#define __shared__ static __attribute__((section("cuda_shared")))
#define MINICNN_CUDA_ON_CPU 1

#include "vectors.h"

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_on_cpu {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;
constexpr int kBoardBytes = 64;  // what one lane can bring to a meeting

extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;
extern int thread_number;  // of the running thread, in its block
extern unsigned char dynamic_memory[];

void wait_for_block(const char* file, int line);
void wait_for_warp(unsigned mask, const char* file, int line);
int count_votes(bool vote, const char* file, int line);
[[noreturn]] void fail(const char* what, const char* file, int line);
unsigned char* board(int lane);       // of the running thread's warp
unsigned lanes_at_board(unsigned mask);  // those of `mask` that have not ended

inline int lane() { return thread_number & 31; }

}  // namespace cuda_on_cpu

#define threadIdx cuda_on_cpu::thread_index
#define blockIdx cuda_on_cpu::block_index
#define blockDim cuda_on_cpu::block_size
#define gridDim cuda_on_cpu::grid_size
#define warpSize 32

#define __syncthreads() cuda_on_cpu::wait_for_block(__FILE__, __LINE__)
#define __syncthreads_count(vote) cuda_on_cpu::count_votes(vote, __FILE__, __LINE__)
#define __syncthreads_or(vote) (__syncthreads_count(vote) != 0)
#define __syncthreads_and(vote) (__syncthreads_count(!(vote)) == 0)
#define __syncwarp(...) \
    cuda_on_cpu::wait_for_warp(cuda_on_cpu::mask_or_all(__VA_ARGS__), __FILE__, __LINE__)
#define __trap() cuda_on_cpu::fail("__trap()", __FILE__, __LINE__)

inline void __threadfence() {}
inline void __threadfence_block() {}

#include "warp.h"
#include "atomics.h"
#include "numbers.h"
#include "tensor_cores.h"
#include "async_copy.h"
