// Local response normalisation: a thread walks through the channels of one cell, and neighbouring
// threads hold neighbouring cells, so that every load is shared by a warp.
//
// The numbers of a window travel along in registers: with each channel one enters and one leaves.
// Their sum is taken anew each time, and not by adding the one and subtracting the other: that would
// be a little faster, but an infinity, once subtracted, would leave a NaN behind for all channels
// that follow. CHANNELS is a constant of the compilation, so that the array really lies in registers.
//
// So that small batches fill the device too, a thread serves CHUNK channels only, and reads CHANNELS - 1
// more at the edges.
#include "common.cuh"

#define CHUNK 16

__device__ __forceinline__ float minus_power(float s, float beta) {
    if (beta == 0.75f) {
        const float root = sqrtf(s);
        return 1.0f / (root * sqrtf(root));
    }
    return powf(s, -beta);
}

// For each channel c of the chunk, calls visit(position, sum of term(position) over the channels
// c - before ... c + CHANNELS - 1 - before).
template <class Term, class Visit>
__device__ __forceinline__ void along_channels(
    int N, int C, int cells, int before, Term term, Visit visit
) {
    const int chunks = (C + CHUNK - 1) / CHUNK;
    const Place step = grid_step(chunks, cells);
    for (Place at = first_place(chunks, cells); at.plane < N; advance(at, step, chunks, cells)) {
        const long long map = (long long)at.plane * C * cells + at.column;
        const int first = at.row * CHUNK, end = min(first + CHUNK, C);
        float window[CHANNELS];
#pragma unroll
        for (int k = 1; k < CHANNELS; ++k) {
            const int c = first - before + k - 1;
            window[k] = c >= 0 && c < C ? term(map + (long long)c * cells) : 0.0f;
        }
        for (int c = first; c < end; ++c) {
            float sum = 0.0f;
#pragma unroll
            for (int k = 0; k < CHANNELS - 1; ++k) {
                window[k] = window[k + 1];
                sum += window[k];
            }
            const int entering = c - before + CHANNELS - 1;
            const bool inside = entering >= 0 && entering < C;
            window[CHANNELS - 1] = inside ? term(map + (long long)entering * cells) : 0.0f;
            visit(map + (long long)c * cells, sum + window[CHANNELS - 1]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) local_response_norm(
    const float* __restrict__ x, float* __restrict__ y, float* __restrict__ s, int N, int C,
    int cells, float alpha, float beta, float k
) {
    const auto square = [&](long long at) { return x[at] * x[at]; };
    along_channels(N, C, cells, CHANNELS / 2, square, [&](long long at, float sum) {
        const float scale = k + alpha * sum;
        s[at] = scale;
        y[at] = x[at] * minus_power(scale, beta);
    });
}

// The windows that hold channel c: the mirrored window.
extern "C" __global__ void __launch_bounds__(256) local_response_norm_grad(
    const float* __restrict__ gy, const float* __restrict__ x, const float* __restrict__ s,
    float* __restrict__ gx, int N, int C, int cells, float twice, float beta
) {
    const auto share = [&](long long at) {
        return gy[at] * x[at] * minus_power(s[at], beta) / s[at];
    };
    along_channels(N, C, cells, (CHANNELS - 1) / 2, share, [&](long long at, float sum) {
        gx[at] = gy[at] * minus_power(s[at], beta) - twice * x[at] * sum;
    });
}
