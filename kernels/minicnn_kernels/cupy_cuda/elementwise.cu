// Activations and arithmetic: y[i] = f(a[i], b[i], number).
//
// Such a kernel does a few operations for 8 or 12 bytes of traffic, so only memory counts, and what
// memory wants is many bytes under way at once. By Little's law, latency times rate must be in
// flight: at some 600 ns and 3.4 to 4.8 TB/s on a Hopper that is 2 to 3 MB, or about 20 kB on each
// of its 132 multiprocessors. A thread here starts four loads of 16 bytes before it uses the first,
// and some 2,000 threads share a multiprocessor: 128 kB.
//
// Loads of 16 bytes need addresses that are multiples of 16. An array at an odd address (a view
// that starts in the middle of another) takes the path of single numbers, as does the tail.
#include "common.cuh"

// Vectors of one turn lie a whole grid apart, so that neighbouring threads read neighbouring ones.
template <bool PAIR, class F>
__device__ __forceinline__ void map(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, long long count,
    F f
) {
    constexpr int VECTORS = PAIR ? 2 : 4;
    const long long vectors = aligned(a) && aligned(y) && (!PAIR || aligned(b)) ? count / 4 : 0;
    const long long stride = (long long)gridDim.x * blockDim.x;
    const float4* a4 = reinterpret_cast<const float4*>(a);
    const float4* b4 = reinterpret_cast<const float4*>(b);
    float4* y4 = reinterpret_cast<float4*>(y);
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (long long i = first; i < vectors; i += VECTORS * stride) {
        float4 u[VECTORS], w[VECTORS];
#pragma unroll
        for (int k = 0; k < VECTORS; ++k) {
            const long long at = i + k * stride;
            if (at < vectors) {
                u[k] = a4[at];
                w[k] = PAIR ? b4[at] : u[k];
            }
        }
#pragma unroll
        for (int k = 0; k < VECTORS; ++k) {
            const long long at = i + k * stride;
            if (at < vectors) {
                y4[at] = {
                    f(u[k].x, w[k].x), f(u[k].y, w[k].y), f(u[k].z, w[k].z), f(u[k].w, w[k].w)
                };
            }
        }
    }
    for (long long i = 4 * vectors + first; i < count; i += stride) {
        y[i] = f(a[i], PAIR ? b[i] : a[i]);
    }
}

// A NaN is not below 0, so it stays.
extern "C" __global__ void __launch_bounds__(256) relu(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<false>(a, b, y, count, [=](float u, float w) { return u < 0.0f ? 0.0f : u; });
}

extern "C" __global__ void __launch_bounds__(256) relu_grad(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return w > 0.0f ? u : 0.0f; });
}

extern "C" __global__ void __launch_bounds__(256) leaky_relu(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<false>(a, b, y, count, [=](float u, float w) { return u > 0.0f ? u : number * u; });
}

extern "C" __global__ void __launch_bounds__(256) leaky_relu_grad(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return w > 0.0f ? u : number * u; });
}

// Through exp(-|u|), so that nothing overflows.
extern "C" __global__ void __launch_bounds__(256) sigmoid(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<false>(a, b, y, count, [=](float u, float w) {
        const float e = expf(-fabsf(u));
        return (u >= 0.0f ? 1.0f : e) / (1.0f + e);
    });
}

extern "C" __global__ void __launch_bounds__(256) sigmoid_grad(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return u * w * (1.0f - w); });
}

extern "C" __global__ void __launch_bounds__(256) hyperbolic_tangent(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<false>(a, b, y, count, [=](float u, float w) { return tanhf(u); });
}

extern "C" __global__ void __launch_bounds__(256) tanh_grad(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return u * (1.0f - w * w); });
}

extern "C" __global__ void __launch_bounds__(256) add(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return u + w; });
}

extern "C" __global__ void __launch_bounds__(256) subtract(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return u - w; });
}

extern "C" __global__ void __launch_bounds__(256) multiply(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return u * w; });
}

extern "C" __global__ void __launch_bounds__(256) divide(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, float number,
    long long count
) {
    map<true>(a, b, y, count, [=](float u, float w) { return u / w; });
}
