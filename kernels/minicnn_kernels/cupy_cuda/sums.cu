// Sums in a fixed order. A float sum depends on its order; additions by atomics come in any, and
// differ from run to run. So a long sum is made in two kernels: blocks write the sums of fixed
// slices, and `add_slices` adds those.

// Add over a block, in shared memory, by halves; blockDim.x is a power of two. Thread 0 has the
// sum.
__device__ inline float block_sum(float value, float* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    return shared[0];
}

// out[i] = alpha * (sum over s of slices[s * size + i]) + bias[i % columns], plus what out[i] was
// if asked. The 32 threads of a row take neighbouring i; the 8 rows of a block share the slices
// out.
extern "C" __global__ void add_slices(const float* __restrict__ slices,
                                      const float* __restrict__ bias, float* __restrict__ out,
                                      int size, int count, int columns, float alpha,
                                      int accumulate) {
    __shared__ float sums[8][32];
    const int i = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.0f;
    if (i < size) {
#pragma unroll 4
        for (int s = threadIdx.y; s < count; s += 8)
            sum += slices[static_cast<long long>(s) * size + i];
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || i >= size) return;
    for (int row = 1; row < 8; row++) sum += sums[row][threadIdx.x];
    sum *= alpha;
    if (bias) sum += bias[i % columns];
    out[i] = accumulate ? out[i] + sum : sum;
}

// sums[slice, c] = sum of channel c of gy (images, channels, plane) over the images of a slice, the
// slices being every gridDim.y-th image.
extern "C" __global__ void channel_sums(const float* __restrict__ gy, float* __restrict__ sums,
                                        int images, int channels, int plane) {
    __shared__ float shared[256];
    float sum = 0.0f;
    const int mine = (images - static_cast<int>(blockIdx.y) + gridDim.y - 1) / gridDim.y;
    for (int i = threadIdx.x; i < mine * plane; i += blockDim.x) {
        const int turn = i / plane;
        const long long image = blockIdx.y + static_cast<long long>(turn) * gridDim.y;
        sum += gy[(image * channels + blockIdx.x) * plane + (i - turn * plane)];
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.y * channels + blockIdx.x] = sum;
}

// sums[slice, j] = sum of column j of x (rows, columns) over every gridDim.y-th row.
extern "C" __global__ void column_sums(const float* __restrict__ x, float* __restrict__ sums,
                                       int rows, int columns) {
    __shared__ float shared[8][32];
    const int j = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.0f;
    if (j < columns) {
        for (int i = blockIdx.y * 8 + threadIdx.y; i < rows; i += gridDim.y * 8)
            sum += x[static_cast<long long>(i) * columns + j];
    }
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || j >= columns) return;
    for (int row = 1; row < 8; row++) sum += shared[row][threadIdx.x];
    sums[blockIdx.y * columns + j] = sum;
}
