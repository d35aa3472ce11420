// Pooling over windows. Forward, a thread makes an output from the cells of its window. Backward, a
// thread makes the gradient of a cell from the windows that hold it: it gathers, where the obvious
// loop would scatter and two overlapping windows could meet in one cell. So nothing is added by
// atomics, every cell is written once, and nothing needs to be zeroed before.
#include "pooling.cuh"

extern "C" __global__ void __launch_bounds__(256, 4) select_pool2d(
    const float* __restrict__ x, float* __restrict__ y, Tap* __restrict__ tap, Window win,
    int planes, float sign, int four
) {
    const Place step = grid_step(win.oh, win.ow);
    for (Place at = first_place(win.oh, win.ow); at.plane < planes;
         advance(at, step, win.oh, win.ow)) {
        const Winner best = winner_at(x, win, at, sign, four);
        const long long o = ((long long)at.plane * win.oh + at.row) * win.ow + at.column;
        y[o] = best.value;
        tap[o] = (Tap)best.tap;
    }
}

extern "C" __global__ void __launch_bounds__(256, 4) select_pool2d_grad(
    const float* __restrict__ gy, const Tap* __restrict__ tap, float* __restrict__ gx, Window win,
    int planes
) {
    const Place step = grid_step(win.h, win.w);
    for (Place at = first_place(win.h, win.w); at.plane < planes; advance(at, step, win.h, win.w)) {
        const long long first = (long long)at.plane * win.oh * win.ow;
        float total = 0.0f;
        windows_over(win, at.row, at.column, [&](int t, int o) {
            total += tap[first + o] == t ? gy[first + o] : 0.0f;
        });
        gx[((long long)at.plane * win.h + at.row) * win.w + at.column] = total;
    }
}

extern "C" __global__ void __launch_bounds__(256, 4) weighted_pool2d(
    const float* __restrict__ x, const float* __restrict__ weights, const float* __restrict__ scale,
    float* __restrict__ y, Window win, int planes
) {
    const Place step = grid_step(win.oh, win.ow);
    for (Place at = first_place(win.oh, win.ow); at.plane < planes;
         advance(at, step, win.oh, win.ow)) {
        const float* map = x + (long long)at.plane * win.h * win.w;
        float total = 0.0f;
        cells_of(win, at.row, at.column, [&](int t, int cell) {
            total += weights[t] * map[cell];
        });
        const int o = at.row * win.ow + at.column;
        y[(long long)at.plane * win.oh * win.ow + o] = total * scale[o];
    }
}

extern "C" __global__ void __launch_bounds__(256, 4) weighted_pool2d_grad(
    const float* __restrict__ gy, const float* __restrict__ weights,
    const float* __restrict__ scale, float* __restrict__ gx, Window win, int planes
) {
    const Place step = grid_step(win.h, win.w);
    for (Place at = first_place(win.h, win.w); at.plane < planes; advance(at, step, win.h, win.w)) {
        const float* from = gy + (long long)at.plane * win.oh * win.ow;
        float total = 0.0f;
        windows_over(win, at.row, at.column, [&](int t, int o) {
            total += weights[t] * (from[o] * scale[o]);
        });
        gx[((long long)at.plane * win.h + at.row) * win.w + at.column] = total;
    }
}
