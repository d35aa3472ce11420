// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32, lane by lane (PTX ISA, "Matrix Fragments for
// mma.m16n8k8 with .tf32").
//
// With group = lane / 4 and member = lane % 4, a lane holds
//     a[i] = A[group + 8 * (i & 1)][member + 4 * (i >> 1)]        A is 16 x 8
//     b[i] = B[member + 4 * i][group]                             B is 8 x 8
//     c[i], d[i] = C[group + 8 * (i >> 1)][2 * member + (i & 1)]  C and D are 16 x 8
// TF32 keeps 10 bits behind the leading one. The tensor core reads a 32-bit register and ignores
// the 13 low bits: a kernel that does not round first truncates, here as there. The sum is formed
// in double precision and rounded once; a GPU's own order of additions is not documented.
#pragma once

inline unsigned cvt_tf32(float x) {  // cvt.rna.tf32.f32: to nearest, halves away from zero
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7F800000u) == 0x7F800000u) return bits & 0x007FFFFFu ? 0x7FFFE000u : bits;
    return (bits + 0x1000u) & 0xFFFFE000u;
}

namespace cuda_on_cpu {

inline float as_tensor_core_reads(unsigned bits) { return __uint_as_float(bits & 0xFFFFE000u); }

struct Fragments { unsigned a[4], b[2]; };

inline void mma_m16n8k8(float* d, const unsigned* a, const unsigned* b, const float* c) {
    Fragments mine;
    memcpy(mine.a, a, sizeof mine.a);
    memcpy(mine.b, b, sizeof mine.b);
    memcpy(board(lane()), &mine, sizeof mine);
    wait_for_warp(kAllLanes, "mma.sync", 0);
    if (lanes_at_board(kAllLanes) != kAllLanes) fail("mma.sync without all 32 lanes", "mma.sync", 0);
    int group = lane() >> 2, member = lane() & 3;
    for (int i = 0; i < 4; i++) {
        int row = group + 8 * (i >> 1), column = 2 * member + (i & 1);
        double sum = c[i];
        for (int k = 0; k < 8; k++) {
            Fragments left, right;
            memcpy(&left, board((row & 7) * 4 + (k & 3)), sizeof left);
            memcpy(&right, board(column * 4 + (k & 3)), sizeof right);
            sum += static_cast<double>(as_tensor_core_reads(left.a[(row >> 3) + 2 * (k >> 2)])) *
                   as_tensor_core_reads(right.b[k >> 2]);
        }
        d[i] = static_cast<float>(sum);
    }
    wait_for_warp(kAllLanes, "mma.sync", 0);
}

}  // namespace cuda_on_cpu

inline void mma_m16n8k8_tf32(float d[4], const unsigned a[4], const unsigned b[2],
                             const float c[4]) {
    cuda_on_cpu::mma_m16n8k8(d, a, b, c);
}
