// Batch normalisation, alone and with the addition and ReLU that follow it.
//
// A few operations for each number: the time is that of the memory crossed. Training reads a map
// twice in each direction, once for the sums of its channels (see channels.cuh) and once to apply
// them; sum, ReLU and ReLU's gradient happen while a number is in a register.
//
// The variance is accurate whatever the mean: each thread adds up the differences to its own first
// number, which are as small as the map's spread allows, and the parts are joined by
//
//     squares = sum over parts of squares + count * (mean of the part - mean of all)**2
//
// (Chan, Golub & LeVeque 1979) in float64. E[x**2] - mean**2 would cancel.
#include "channels.cuh"

struct Moments {
    float first, total, square;
    int count;

    __device__ __forceinline__ void add(float v) {
        if (count++ == 0) {
            first = v - v == 0.0f ? v : 0.0f;  // an infinity is no reference point
        }
        const float d = v - first;
        total += d;
        square += d * d;
    }
};

struct Part {
    double count, sum, squares;
};

__device__ __forceinline__ Part part_from(const Moments& m) {
    if (!m.count) {
        return {0.0, 0.0, 0.0};
    }
    const double count = m.count, total = m.total;
    return {count, count * m.first + total, m.square - total * total / count};
}

// The squares about `mean` of a part whose squares are about its own.
__device__ __forceinline__ double about(const Part& p, double mean) {
    const double d = p.count != 0.0 ? p.sum / p.count - mean : 0.0;
    return p.squares + p.count * d * d;
}

extern "C" __global__ void __launch_bounds__(256) channel_moments(
    const float* __restrict__ x, Part* __restrict__ parts, int N, int C, int cells, int wide
) {
    __shared__ double shared[CHANNEL_THREADS / 32];
    Moments m = {0.0f, 0.0f, 0.0f, 0};
    if (wide) {
        along_channel<4>(N, C, cells, [&](long long at) {
            float v[4];
            load(x + at, v);
            for (int k = 0; k < 4; ++k) {
                m.add(v[k]);
            }
        });
    } else {
        along_channel<1>(N, C, cells, [&](long long at) { m.add(x[at]); });
    }
    const Part mine = part_from(m);
    const double count = block_sum(mine.count, shared);
    const double sum = block_sum(mine.sum, shared);
    const double squares = block_sum(about(mine, sum / count), shared);
    if (threadIdx.x == 0) {
        parts[(long long)blockIdx.y * C + blockIdx.x] = {count, sum, squares};
    }
}

extern "C" __global__ void __launch_bounds__(256) column_moments(
    const float* __restrict__ x, Part* __restrict__ parts, int N, int columns
) {
    __shared__ Part rows[COLUMN_ROWS][COLUMN_LANES];
    Moments m = {0.0f, 0.0f, 0.0f, 0};
    along_column(N, columns, [&](long long at) { m.add(x[at]); });
    rows[threadIdx.y][threadIdx.x] = part_from(m);
    __syncthreads();
    const int column = blockIdx.x * COLUMN_LANES + threadIdx.x;
    if (threadIdx.y == 0 && column < columns) {
        Part all = {0.0, 0.0, 0.0};
        for (int row = 0; row < COLUMN_ROWS; ++row) {
            all.count += rows[row][threadIdx.x].count;
            all.sum += rows[row][threadIdx.x].sum;
        }
        for (int row = 0; row < COLUMN_ROWS; ++row) {
            all.squares += about(rows[row][threadIdx.x], all.sum / all.count);
        }
        parts[(long long)blockIdx.y * columns + column] = all;
    }
}

extern "C" __global__ void __launch_bounds__(32) finish_moments(
    const Part* __restrict__ parts, float* __restrict__ mean, float* __restrict__ var, int count,
    int C, int spread
) {
    const int c = blockIdx.x;
    double cells = 0.0, sum = 0.0, squares = 0.0;
    for (int k = threadIdx.x; k < count; k += 32) {
        const Part p = parts[part_of(k, c, C, spread)];
        cells += p.count;
        sum += p.sum;
    }
    cells = warp_sum(cells);
    sum = warp_sum(sum);
    for (int k = threadIdx.x; k < count; k += 32) {
        squares += about(parts[part_of(k, c, C, spread)], sum / cells);
    }
    squares = warp_sum(squares);
    if (threadIdx.x == 0) {
        mean[c] = (float)(sum / cells);
        var[c] = (float)(squares / cells);
    }
}

template <int W>
__device__ __forceinline__ void normalise_runs(
    const float* __restrict__ x, const float* __restrict__ skip, float* __restrict__ y,
    const Statistics& s, int N, int C, int columns, bool relu
) {
    const Place step = grid_step(C, columns);
    for (Place at = first_place(C, columns); at.plane < N; advance(at, step, C, columns)) {
        const long long cell = W * (((long long)at.plane * C + at.row) * columns + at.column);
        const Channel c = channel(s, at.row);
        float v[W], added[W];
        load(x + cell, v);
        if (skip) {
            load(skip + cell, added);
        }
#pragma unroll
        for (int k = 0; k < W; ++k) {
            v[k] = normalised(c, v[k]);
            v[k] = skip ? v[k] + added[k] : v[k];
            v[k] = relu ? relu_of(v[k]) : v[k];
        }
        store(y + cell, v);
    }
}

extern "C" __global__ void __launch_bounds__(256) normalise(
    const float* __restrict__ x, const float* __restrict__ skip, float* __restrict__ y,
    const float* __restrict__ mean, const float* __restrict__ var, const float* __restrict__ w,
    const float* __restrict__ b, float eps, int N, int C, int cells, int relu, int wide
) {
    const Statistics s = {mean, var, w, b, eps};
    if (wide) {
        normalise_runs<4>(x, skip, y, s, N, C, cells / 4, relu);
    } else {
        normalise_runs<1>(x, skip, y, s, N, C, cells, relu);
    }
}

struct Sums {
    double gradient, product;
};

// Adds up gy and gy * (x - mean), where ReLU passed if there is one.
struct GradientSums {
    Channel c;
    bool relu;
    float gradient, product;

    __device__ __forceinline__ void add(float gy, float x) {
        const float g = !relu || normalised(c, x) > 0.0f ? gy : 0.0f;
        gradient += g;
        product += g * (x - c.mean);
    }
};

extern "C" __global__ void __launch_bounds__(256) channel_gradient_sums(
    const float* __restrict__ gy, const float* __restrict__ x, const float* __restrict__ mean,
    const float* __restrict__ var, const float* __restrict__ w, const float* __restrict__ b,
    float eps, Sums* __restrict__ parts, int N, int C, int cells, int relu, int wide
) {
    __shared__ double shared[CHANNEL_THREADS / 32];
    const Statistics s = {mean, var, w, b, eps};
    GradientSums sums = {channel(s, blockIdx.x), relu != 0, 0.0f, 0.0f};
    if (wide) {
        along_channel<4>(N, C, cells, [&](long long at) {
            float g[4], v[4];
            load(gy + at, g);
            load(x + at, v);
            for (int k = 0; k < 4; ++k) {
                sums.add(g[k], v[k]);
            }
        });
    } else {
        along_channel<1>(N, C, cells, [&](long long at) { sums.add(gy[at], x[at]); });
    }
    const double gradient = block_sum((double)sums.gradient, shared);
    const double product = block_sum((double)sums.product, shared);
    if (threadIdx.x == 0) {
        parts[(long long)blockIdx.y * C + blockIdx.x] = {gradient, product};
    }
}

extern "C" __global__ void __launch_bounds__(256) column_gradient_sums(
    const float* __restrict__ gy, const float* __restrict__ x, const float* __restrict__ mean,
    const float* __restrict__ var, const float* __restrict__ w, const float* __restrict__ b,
    float eps, Sums* __restrict__ parts, int N, int columns, int cells, int relu
) {
    __shared__ Sums rows[COLUMN_ROWS][COLUMN_LANES];
    const int column = blockIdx.x * COLUMN_LANES + threadIdx.x;
    const Statistics s = {mean, var, w, b, eps};
    const int c = column < columns ? column / cells : 0;
    GradientSums sums = {channel(s, c), relu != 0, 0.0f, 0.0f};
    along_column(N, columns, [&](long long at) { sums.add(gy[at], x[at]); });
    rows[threadIdx.y][threadIdx.x] = {sums.gradient, sums.product};
    __syncthreads();
    if (threadIdx.y == 0 && column < columns) {
        Sums all = {0.0, 0.0};
        for (int row = 0; row < COLUMN_ROWS; ++row) {
            all.gradient += rows[row][threadIdx.x].gradient;
            all.product += rows[row][threadIdx.x].product;
        }
        parts[(long long)blockIdx.y * columns + column] = all;
    }
}

extern "C" __global__ void __launch_bounds__(32) finish_gradient_sums(
    const Sums* __restrict__ parts, const float* __restrict__ var, float eps,
    float* __restrict__ gw, float* __restrict__ gb, int count, int C, int spread
) {
    const int c = blockIdx.x;
    double gradient = 0.0, product = 0.0;
    for (int k = threadIdx.x; k < count; k += 32) {
        const Sums p = parts[part_of(k, c, C, spread)];
        gradient += p.gradient;
        product += p.product;
    }
    gradient = warp_sum(gradient);
    product = warp_sum(product);
    if (threadIdx.x == 0) {
        gw[c] = (float)(product / sqrt((double)var[c] + eps));
        gb[c] = (float)gradient;
    }
}

// gx = factor * (g - gb / count - xhat * gw / count); without the sums where they are null.
template <int W>
__device__ __forceinline__ void gradient_runs(
    const float* __restrict__ gy, const float* __restrict__ x, float* __restrict__ gx,
    const Statistics& s, const float* __restrict__ gw, const float* __restrict__ gb, float share,
    int N, int C, int columns, bool relu
) {
    const Place step = grid_step(C, columns);
    for (Place at = first_place(C, columns); at.plane < N; advance(at, step, C, columns)) {
        const long long cell = W * (((long long)at.plane * C + at.row) * columns + at.column);
        const Channel c = channel(s, at.row);
        float g[W], v[W];
        load(gy + cell, g);
        if (gw) {
            load(x + cell, v);
            const float by_mean = c.factor * gb[at.row] * share;
            const float by_var = c.factor * gw[at.row] * share * c.inv;
#pragma unroll
            for (int k = 0; k < W; ++k) {
                const float passed = !relu || normalised(c, v[k]) > 0.0f ? g[k] : 0.0f;
                g[k] = c.factor * passed - (by_mean + by_var * (v[k] - c.mean));
            }
        } else {
#pragma unroll
            for (int k = 0; k < W; ++k) {
                g[k] *= c.factor;
            }
        }
        store(gx + cell, g);
    }
}

extern "C" __global__ void __launch_bounds__(256) input_gradient(
    const float* __restrict__ gy, const float* __restrict__ x, float* __restrict__ gx,
    const float* __restrict__ mean, const float* __restrict__ var, const float* __restrict__ w,
    const float* __restrict__ b, float eps, const float* __restrict__ gw,
    const float* __restrict__ gb, float share, int N, int C, int cells, int relu, int wide
) {
    const Statistics s = {mean, var, w, b, eps};
    if (wide) {
        gradient_runs<4>(gy, x, gx, s, gw, gb, share, N, C, cells / 4, relu);
    } else {
        gradient_runs<1>(gy, x, gx, s, gw, gb, share, N, C, cells, relu);
    }
}

// Running statistics move towards those of a batch; `unbiased` is count / (count - 1).
extern "C" __global__ void __launch_bounds__(256) move_statistics(
    float* __restrict__ running_mean, float* __restrict__ running_var,
    const float* __restrict__ mean, const float* __restrict__ var, float momentum, float unbiased,
    int C
) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c < C) {
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_var[c] += momentum * (var[c] * unbiased - running_var[c]);
    }
}
