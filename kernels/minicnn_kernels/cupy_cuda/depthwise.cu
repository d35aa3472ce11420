// Depthwise convolution: each filter sees one channel, so that there is no product of matrices to
// fill a tensor core with, and a thread computes one result from the taps it needs.
//
// A block belongs to one channel or filter, whose few weights it keeps in shared memory. TAPS_H x
// TAPS_W, the kernel's size, and the strides are known when this is compiled: the loops unroll, and
// dividing by a stride costs a shift or nothing.

struct Sizes {
    int images, channels, filters, multiplier;  // filters = channels * multiplier
    int h, w, oh, ow, ph, pw, dh, dw;
    int relu;
};

constexpr int TAPS = TAPS_H * TAPS_W;

extern "C" __global__ void depthwise(const float* __restrict__ x, const float* __restrict__ w,
                                     const float* __restrict__ scale,
                                     const float* __restrict__ shift, float* __restrict__ y,
                                     Sizes s) {
    __shared__ float weights[TAPS];
    const int f = blockIdx.y, plane = s.oh * s.ow;
    for (int t = threadIdx.x; t < TAPS; t += blockDim.x) weights[t] = w[f * TAPS + t];
    __syncthreads();
    const float by = scale ? scale[f] : 1.0f, plus = shift ? shift[f] : 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < s.images * plane;
         i += gridDim.x * blockDim.x) {
        const int image = i / plane, p = i - image * plane, oy = p / s.ow;
        const int top = oy * STRIDE_H - s.ph, left = (p - oy * s.ow) * STRIDE_W - s.pw;
        const float* map =
            x + (static_cast<long long>(image) * s.channels + f / s.multiplier) * s.h * s.w;
        float sum = 0.0f;
#pragma unroll
        for (int a = 0; a < TAPS_H; a++)
#pragma unroll
            for (int b = 0; b < TAPS_W; b++) {
                const int row = top + a * s.dh, column = left + b * s.dw;
                if (row >= 0 && row < s.h && column >= 0 && column < s.w)
                    sum += map[row * s.w + column] * weights[a * TAPS_W + b];
            }
        sum = sum * by + plus;
        y[(static_cast<long long>(image) * s.filters + f) * plane + p] =
            s.relu && sum < 0.0f ? 0.0f : sum;
    }
}

extern "C" __global__ void depthwise_input(const float* __restrict__ gy,
                                           const float* __restrict__ w, float* __restrict__ gx,
                                           Sizes s) {
    extern __shared__ float weights_of[];  // of the filters of this channel
    const int c = blockIdx.y, plane = s.h * s.w, from = c * s.multiplier;
    for (int t = threadIdx.x; t < s.multiplier * TAPS; t += blockDim.x)
        weights_of[t] = w[from * TAPS + t];
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < s.images * plane;
         i += gridDim.x * blockDim.x) {
        const int image = i / plane, p = i - image * plane, row = p / s.w + s.ph;
        const int column = p % s.w + s.pw;
        const float* maps =
            gy + (static_cast<long long>(image) * s.filters + from) * s.oh * s.ow;
        float sum = 0.0f;
#pragma unroll
        for (int a = 0; a < TAPS_H; a++) {
            const int oy = row - a * s.dh;
            if (oy < 0 || oy % STRIDE_H || oy / STRIDE_H >= s.oh) continue;
#pragma unroll
            for (int b = 0; b < TAPS_W; b++) {
                const int ox = column - b * s.dw;
                if (ox < 0 || ox % STRIDE_W || ox / STRIDE_W >= s.ow) continue;
                const int at = oy / STRIDE_H * s.ow + ox / STRIDE_W;
                for (int m = 0; m < s.multiplier; m++)
                    sum += maps[m * s.oh * s.ow + at] * weights_of[m * TAPS + a * TAPS_W + b];
            }
        }
        gx[(static_cast<long long>(image) * s.channels + c) * plane + p] = sum;
    }
}

// sums[slice, f, tap]: each thread adds up all taps over its positions of the slice's images, then
// the block adds its threads, and `add_slices` of sums.cu the slices.
extern "C" __global__ void depthwise_weight(const float* __restrict__ gy,
                                            const float* __restrict__ x, float* __restrict__ sums,
                                            Sizes s) {
    __shared__ float shared[128];
    const int f = blockIdx.x, plane = s.oh * s.ow, slice = blockIdx.y;
    const int count = gridDim.y, mine = (s.images - slice + count - 1) / count;
    float own[TAPS];
#pragma unroll
    for (int t = 0; t < TAPS; t++) own[t] = 0.0f;
    for (int i = threadIdx.x; i < mine * plane; i += blockDim.x) {
        const int turn = i / plane, p = i - turn * plane, oy = p / s.ow;
        const long long image = slice + static_cast<long long>(turn) * count;
        const int top = oy * STRIDE_H - s.ph, left = (p - oy * s.ow) * STRIDE_W - s.pw;
        const float* map = x + (image * s.channels + f / s.multiplier) * s.h * s.w;
        const float g = gy[(image * s.filters + f) * plane + p];
#pragma unroll
        for (int a = 0; a < TAPS_H; a++)
#pragma unroll
            for (int b = 0; b < TAPS_W; b++) {
                const int row = top + a * s.dh, column = left + b * s.dw;
                if (row >= 0 && row < s.h && column >= 0 && column < s.w)
                    own[a * TAPS_W + b] += g * map[row * s.w + column];
            }
    }
#pragma unroll
    for (int t = 0; t < TAPS; t++) {
        shared[threadIdx.x] = own[t];
        __syncthreads();
        for (int half = blockDim.x / 2; half > 0; half /= 2) {
            if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
            __syncthreads();
        }
        if (threadIdx.x == 0)
            sums[(static_cast<long long>(slice) * s.filters + f) * TAPS + t] = shared[0];
        __syncthreads();
    }
}
