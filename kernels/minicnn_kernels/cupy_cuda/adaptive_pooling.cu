// Adaptive pooling: bin i of n along an axis of L cells is [floor(i * L / n), ceil((i + 1) * L / n)),
// so neighbouring bins share a cell where n does not divide L.
//
// One bin for a whole map is global average pooling, the last layer of most networks: there a warp
// adds up a map, its lanes side by side, instead of one thread walking alone.
//
// Backward gathers: a cell r lies in the bins from floor(r * n / L) to ceil((r + 1) * n / L) - 1.
#include "common.cuh"
#include "reduce.cuh"

__device__ __forceinline__ int up(long long a, int b) { return (int)((a + b - 1) / b); }

struct Bins {
    int first, end;
};

__device__ __forceinline__ Bins cells_of_bin(int i, int length, int bins) {
    return {(int)((long long)i * length / bins), up((i + 1LL) * length, bins)};
}

__device__ __forceinline__ Bins bins_of_cell(int r, int length, int bins) {
    return {(int)((long long)r * bins / length), up((r + 1LL) * bins, length)};
}

// (planes, H, W) -> (planes, OH, OW)
extern "C" __global__ void __launch_bounds__(256, 4) bin_means(
    const float* __restrict__ x, float* __restrict__ y, int planes, int H, int W, int OH, int OW
) {
    const Place step = grid_step(OH, OW);
    for (Place at = first_place(OH, OW); at.plane < planes; advance(at, step, OH, OW)) {
        const Bins rows = cells_of_bin(at.row, H, OH), columns = cells_of_bin(at.column, W, OW);
        const float* map = x + (long long)at.plane * H * W;
        float total = 0.0f;
        for (int r = rows.first; r < rows.end; ++r) {
            for (int c = columns.first; c < columns.end; ++c) {
                total += map[r * W + c];
            }
        }
        const int cells = (rows.end - rows.first) * (columns.end - columns.first);
        y[((long long)at.plane * OH + at.row) * OW + at.column] = total / cells;
    }
}

// One warp for each plane.
extern "C" __global__ void __launch_bounds__(256) plane_means(
    const float* __restrict__ x, float* __restrict__ y, int planes, int cells
) {
    const int plane = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (plane >= planes) {
        return;
    }
    const float* map = x + (long long)plane * cells;
    float total = 0.0f;
#pragma unroll 4
    for (int i = threadIdx.x % 32; i < cells; i += 32) {
        total += map[i];
    }
    total = warp_sum(total);
    if (threadIdx.x % 32 == 0) {
        y[plane] = total / cells;
    }
}

// gy (planes, OH, OW) -> (planes, H, W)
extern "C" __global__ void __launch_bounds__(256, 2) bin_means_grad(
    const float* __restrict__ gy, float* __restrict__ gx, int planes, int H, int W, int OH, int OW
) {
    const Place step = grid_step(H, W);
    for (Place at = first_place(H, W); at.plane < planes; advance(at, step, H, W)) {
        const Bins rows = bins_of_cell(at.row, H, OH), columns = bins_of_cell(at.column, W, OW);
        const float* from = gy + (long long)at.plane * OH * OW;
        float total = 0.0f;
        for (int i = rows.first; i < rows.end; ++i) {
            const Bins tall = cells_of_bin(i, H, OH);
            for (int j = columns.first; j < columns.end; ++j) {
                const Bins broad = cells_of_bin(j, W, OW);
                const int cells = (tall.end - tall.first) * (broad.end - broad.first);
                total += from[i * OW + j] / cells;
            }
        }
        gx[((long long)at.plane * H + at.row) * W + at.column] = total;
    }
}

// The first of equals wins, and the first NaN over everything.
extern "C" __global__ void __launch_bounds__(256, 4) bin_maxima(
    const float* __restrict__ x, float* __restrict__ y, int* __restrict__ position, int planes,
    int H, int W, int OH, int OW
) {
    const Place step = grid_step(OH, OW);
    for (Place at = first_place(OH, OW); at.plane < planes; advance(at, step, OH, OW)) {
        const Bins rows = cells_of_bin(at.row, H, OH), columns = cells_of_bin(at.column, W, OW);
        const float* map = x + (long long)at.plane * H * W;
        int best = rows.first * W + columns.first;
        for (int r = rows.first; r < rows.end; ++r) {
            for (int c = columns.first; c < columns.end; ++c) {
                const float v = map[r * W + c], held = map[best];
                best = v > held || (v != v && held == held) ? r * W + c : best;
            }
        }
        const long long o = ((long long)at.plane * OH + at.row) * OW + at.column;
        y[o] = map[best];
        position[o] = best;
    }
}

extern "C" __global__ void __launch_bounds__(256, 4) bin_maxima_grad(
    const float* __restrict__ gy, const int* __restrict__ position, float* __restrict__ gx,
    int planes, int H, int W, int OH, int OW
) {
    const Place step = grid_step(H, W);
    for (Place at = first_place(H, W); at.plane < planes; advance(at, step, H, W)) {
        const Bins rows = bins_of_cell(at.row, H, OH), columns = bins_of_cell(at.column, W, OW);
        const long long first = (long long)at.plane * OH * OW;
        const int cell = at.row * W + at.column;
        float total = 0.0f;
        for (int i = rows.first; i < rows.end; ++i) {
            for (int j = columns.first; j < columns.end; ++j) {
                const long long o = first + i * OW + j;
                total += position[o] == cell ? gy[o] : 0.0f;
            }
        }
        gx[((long long)at.plane * H + at.row) * W + at.column] = total;
    }
}
