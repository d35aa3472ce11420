// Batch normalisation, ReLU and max pooling in one pass over the map.
//
// Within a channel, normalising and ReLU keep the order of the numbers, or turn it round where the
// factor is negative. So the winners are found among the x, and only they are normalised: a quarter
// of the map for the usual window of 2x2. Backward, the gradients by w and b are sums over the
// winners alone; here the gradient by x is finished. Every cell loses its share through mean and
// variance, and the winners get their gy, each gathered from the windows that hold it.
#include "channels.cuh"
#include "pooling.cuh"

extern "C" __global__ void __launch_bounds__(256, 5) normalised_pool(
    const float* __restrict__ x, float* __restrict__ y, float* __restrict__ best,
    Tap* __restrict__ tap, const float* __restrict__ mean, const float* __restrict__ var,
    const float* __restrict__ w, const float* __restrict__ b, float eps, Window win, int planes,
    int C, int four
) {
    const Statistics s = {mean, var, w, b, eps};
    const Place step = grid_step(win.oh, win.ow);
    for (Place at = first_place(win.oh, win.ow); at.plane < planes;
         advance(at, step, win.oh, win.ow)) {
        const Channel c = channel(s, at.plane % C);
        const Winner found = winner_at(x, win, at, c.factor < 0.0f ? -1.0f : 1.0f, four);
        const long long o = ((long long)at.plane * win.oh + at.row) * win.ow + at.column;
        y[o] = relu_of(normalised(c, found.value));
        best[o] = found.value;
        tap[o] = (Tap)found.tap;
    }
}

extern "C" __global__ void __launch_bounds__(256, 5) normalised_pool_grad(
    const float* __restrict__ gy, const float* __restrict__ best, const Tap* __restrict__ tap,
    const float* __restrict__ x, float* __restrict__ gx, const float* __restrict__ mean,
    const float* __restrict__ var, const float* __restrict__ w, const float* __restrict__ b,
    float eps, const float* __restrict__ gw, const float* __restrict__ gb, float share, Window win,
    int planes, int C
) {
    const Statistics s = {mean, var, w, b, eps};
    const Place step = grid_step(win.h, win.w);
    for (Place at = first_place(win.h, win.w); at.plane < planes; advance(at, step, win.h, win.w)) {
        const int ch = at.plane % C;
        const Channel c = channel(s, ch);
        const long long first = (long long)at.plane * win.oh * win.ow;
        float passed = 0.0f;
        windows_over(win, at.row, at.column, [&](int t, int o) {
            const bool counts = tap[first + o] == t && normalised(c, best[first + o]) > 0.0f;
            passed += counts ? gy[first + o] : 0.0f;
        });
        const long long cell = ((long long)at.plane * win.h + at.row) * win.w + at.column;
        const float lost = gb[ch] + gw[ch] * c.inv * (x[cell] - c.mean);
        gx[cell] = c.factor * (passed - share * lost);
    }
}
