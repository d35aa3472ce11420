// The instructions that C++ has no words for: tensor-core products and copies that do not wait.
//
// A tensor core multiplies TF32 numbers: float32 with 10 of its 23 mantissa bits (PTX ISA, section
// "Alternate floating-point data formats"). cvt_tf32 rounds to the nearest of those, ties away from
// zero; without it the hardware would cut bits off, and every product would come out too small.
//
// mma_m16n8k8 adds a (16 x 8) times b (8 x 8) to c (16 x 8), spread over the 32 threads of a warp.
// With g = lane / 4 and t = lane % 4 a thread holds (PTX ISA, "Matrix fragments for mma.m16n8k8"):
//     a[0..3]   a(g, t), a(g + 8, t), a(g, t + 4), a(g + 8, t + 4)
//     b[0..1]   b(t, g), b(t + 4, g)
//     c[0..3]   c(g, 2t), c(g, 2t + 1), c(g + 8, 2t), c(g + 8, 2t + 1)
//
// cp_async_4 and _16 start a copy of so many bytes from global to shared memory and return at once;
// where `valid` is false they write zeros and read nothing, which is how padding is read as 0.
// cp_async_commit closes a group of copies. cp_async_wait<N> waits until at most the N youngest
// groups are under way. It only speaks for the copies of its own thread: what the others copied is
// there after the next __syncthreads.
#pragma once

#ifndef MINICNN_CUDA_ON_CPU

__device__ __forceinline__ unsigned cvt_tf32(float x) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

__device__ __forceinline__ void mma_m16n8k8_tf32(float d[4], const unsigned a[4],
                                                 const unsigned b[2], const float c[4]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
}

// An address within shared memory has 32 bits of its own.
__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void cp_async_4(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(global), "r"(valid ? 4 : 0)
                 : "memory");
}

// .cg: past the first-level cache, because wide copies are of data that no neighbour reads again.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;"); }

template <int N>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
}

#endif
