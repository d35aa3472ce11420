// im2col and its transpose, one thread for each number written.
//
// im2col copies: number (c, i, j, oy, ox) is the pixel that tap (i, j) of window (oy, ox) meets.
// col2im turns the question round: a thread owns a pixel and adds up what the taps that meet it
// hold, in the order of the taps. The obvious loop, over the columns, would have many threads add
// to one pixel; this one needs no atomic addition and gives the same bits in every run.

struct Window {
    int h, w, kh, kw, sh, sw, ph, pw, ph_end, pw_end, dh, dw, oh, ow;
};

extern "C" __global__ void im2col(const float* __restrict__ x, float* __restrict__ columns,
                                  long long planes, Window s) {
    const int plane = s.kh * s.kw * s.oh * s.ow;
    const long long count = planes * plane, step = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += step) {
        const long long map = i / plane;
        int rest = static_cast<int>(i - map * plane);
        const int ox = rest % s.ow;
        rest /= s.ow;
        const int oy = rest % s.oh;
        rest /= s.oh;
        const int row = oy * s.sh - s.ph + rest / s.kw * s.dh;
        const int column = ox * s.sw - s.pw + rest % s.kw * s.dw;
        const bool inside = row >= 0 && row < s.h && column >= 0 && column < s.w;
        columns[i] = inside ? x[(map * s.h + row) * s.w + column] : 0.0f;
    }
}

extern "C" __global__ void col2im(const float* __restrict__ columns, float* __restrict__ x,
                                  long long planes, Window s) {
    const int plane = s.h * s.w;
    const long long count = planes * plane, step = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long p = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; p < count;
         p += step) {
        const long long map = p / plane;
        const int pixel = static_cast<int>(p - map * plane);
        const int row = pixel / s.w + s.ph, column = pixel % s.w + s.pw;
        float sum = 0.0f;
        for (int i = 0; i < s.kh; i++) {
            const int oy = row - i * s.dh;
            if (oy < 0 || oy % s.sh || oy / s.sh >= s.oh) continue;
            for (int j = 0; j < s.kw; j++) {
                const int ox = column - j * s.dw;
                if (ox < 0 || ox % s.sw || ox / s.sw >= s.ow) continue;
                const long long tap = (map * s.kh + i) * s.kw + j;
                sum += columns[(tap * s.oh + oy / s.sh) * s.ow + ox / s.sw];
            }
        }
        x[p] = sum;
    }
}
