// Optimizer steps and gradient clipping, each over many arrays in one launch (see lists.cuh).
//
// Learning rate and step may live on the device, so that a captured graph follows a schedule; a
// thread reads them once. Adam's corrections 1 - beta**step take a power in float64, hundreds of
// instructions, so one thread of a block computes them for all.
#include "lists.cuh"
#include "reduce.cuh"

struct Sgd {
    float lr, momentum, fresh, weight_decay;
    bool nesterov;

    // d = g + weight_decay * p; a weight decay of 0 must not turn an infinite p into NaN.
    __device__ __forceinline__ float direction(float p, float g) const {
        return weight_decay != 0.0f ? g + weight_decay * p : g;
    }

    __device__ __forceinline__ void operator()(float (&v)[2]) const {
        v[0] -= lr * direction(v[0], v[1]);
    }

    __device__ __forceinline__ void operator()(float (&v)[3]) const {
        const float d = direction(v[0], v[1]);
        v[2] = momentum * v[2] + fresh * d;
        v[0] -= lr * (nesterov ? d + momentum * v[2] : v[2]);
    }
};

extern "C" __global__ void __launch_bounds__(256) sgd_step(
    Lists lists, Number lr, float momentum, float fresh, float weight_decay, int nesterov,
    int has_velocities
) {
    const Sgd step = {(float)read(lr), momentum, fresh, weight_decay, nesterov != 0};
    if (has_velocities) {
        along_chunk<3, true>(lists, step);
    } else {
        along_chunk<2, true>(lists, step);
    }
}

extern "C" __global__ void __launch_bounds__(256, 4) adam_step(
    Lists lists, Number step, Number lr, Number first_beta, Number second_beta, float eps,
    Number shrinking, int decoupled
) {
    __shared__ float rate, correction;
    const double beta1 = read(first_beta), beta2 = read(second_beta), base = read(lr);
    const double weight_decay = read(shrinking);
    if (threadIdx.x == 0) {
        const double count = read(step);
        rate = (float)(base / (1.0 - pow(beta1, count)));
        correction = (float)(1.0 - pow(beta2, count));
    }
    __syncthreads();
    const float decay = decoupled ? 0.0f : (float)weight_decay;
    const float shrink = decoupled ? (float)(1.0 - base * weight_decay) : 1.0f;
    const float keep1 = (float)beta1, keep2 = (float)beta2;
    const float fresh1 = (float)(1.0 - beta1), fresh2 = (float)(1.0 - beta2);
    const float by_rate = rate, by_correction = correction;
    along_chunk<4, true>(lists, [=](float (&v)[4]) {
        const float g = decay != 0.0f ? v[1] + decay * v[0] : v[1];
        v[2] = keep1 * v[2] + fresh1 * g;
        v[3] = keep2 * v[3] + fresh2 * (g * g);
        v[0] = shrink * v[0] - by_rate * v[2] / (sqrtf(v[3] / by_correction) + eps);
    });
}

extern "C" __global__ void __launch_bounds__(256) rmsprop_step(
    Lists lists, Number lr, float alpha, float fresh, float eps, float weight_decay, float momentum
) {
    const float rate = (float)read(lr);
    along_chunk<4, true>(lists, [=](float (&v)[4]) {
        const float g = weight_decay != 0.0f ? v[1] + weight_decay * v[0] : v[1];
        v[2] = alpha * v[2] + fresh * (g * g);
        v[3] = momentum * v[3] + g / (sqrtf(v[2]) + eps);
        v[0] -= rate * v[3];
    });
}

extern "C" __global__ void __launch_bounds__(256) scale_by(Lists lists, Number factor) {
    const float by = (float)read(factor);
    along_chunk<1, true>(lists, [=](float (&v)[1]) { v[0] *= by; });
}

// The sum of squares of a block's chunk; then one block adds up the parts, in their order.
extern "C" __global__ void __launch_bounds__(256) squares_of_chunks(
    Lists lists, double* __restrict__ parts
) {
    __shared__ double shared[8];
    double sum = 0.0;
    along_chunk<1, false>(lists, [&](float (&v)[1]) { sum += (double)v[0] * v[0]; });
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256) sum_of_parts(
    const double* __restrict__ parts, double* __restrict__ sum, long long count
) {
    __shared__ double shared[8];
    double mine = 0.0;
    for (long long i = threadIdx.x; i < count; i += 256) {
        mine += parts[i];
    }
    mine = block_sum(mine, shared);
    if (threadIdx.x == 0) {
        *sum = mine;
    }
}
