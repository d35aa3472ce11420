"""CUDA C++ run on the CPU: right kernels are right in every order of threads, wrong ones caught.

Runs where ``cupy`` is the stand-in; test_gpu_on_cpu.py starts such a process.
"""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.testing import assert_close

_build = pytest.importorskip("cupy._build", reason="only on the stand-in: test_gpu_on_cpu.py")
cupy = pytest.importorskip("cupy")
KernelFault = pytest.importorskip("cupy._raw").KernelFault

pytestmark = pytest.mark.skipif(_build.compiler() is None, reason="there is no C++ compiler")

ORDERS = (0, 1, 2, 3, 12345)


@pytest.fixture(params=ORDERS)
def order(request, monkeypatch):
    monkeypatch.setenv("MINICNN_CUDA_ORDER", str(request.param))
    return request.param


def compiled(text, name, *options):
    return cupy.RawModule(code=text, options=options).get_function(name)


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------ right kernels

PRODUCT = r"""
extern "C" __global__ void __launch_bounds__(256)
product(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int n) {
    __shared__ float left[16][16];
    extern __shared__ __align__(16) float right[];
    int x = threadIdx.x, y = threadIdx.y, column = blockIdx.x * 16 + x, row = blockIdx.y * 16 + y;
    float sum = 0.0f;
    for (int k = 0; k < n; k += 16) {
        left[y][x] = a[row * n + k + x];
        right[y * 16 + x] = b[(k + y) * n + column];
#ifndef NO_FIRST_BARRIER
        __syncthreads();
#endif
        for (int i = 0; i < 16; i++) sum += left[y][i] * right[i * 16 + x];
#ifndef NO_SECOND_BARRIER
        __syncthreads();
#endif
    }
    c[row * n + column] = sum;
}
"""


def product(*options):
    a, b = random(2, 48, 48)
    c = cupy.empty((48, 48), np.float32)
    kernel = compiled(PRODUCT, "product", *options)
    arrays = cupy.asarray(a), cupy.asarray(b), c
    kernel((3, 3), (16, 16), (*arrays, np.int32(48)), shared_mem=1024)
    return c.get(), a.astype(np.float64) @ b.astype(np.float64), np.abs(a) @ np.abs(b)


def is_close(pair):
    found, exact, magnitude = pair
    return bool((np.abs(found - exact) <= 48 * np.finfo(np.float32).eps * magnitude).all())


def test_a_tiled_product(order):
    assert is_close(product())


WARPS = r"""
extern "C" __global__ void sum_of_warp(const int* x, int* y) {
    int v = x[threadIdx.x];
    for (int half = 16; half; half >>= 1) v += __shfl_down_sync(0xffffffffu, v, half);
    if (threadIdx.x % 32 == 0) y[threadIdx.x / 32] = v;
}
extern "C" __global__ void every_operation(int* y) {
    int lane = threadIdx.x & 31, *row = y + threadIdx.x * 10;
    unsigned all = 0xffffffffu;
    row[0] = __shfl_sync(all, lane, 5);
    row[1] = __shfl_sync(all, lane, lane + 1);
    row[2] = __shfl_up_sync(all, lane, 3);
    row[3] = __shfl_down_sync(all, lane, 3);
    row[4] = __shfl_xor_sync(all, lane, 6);
    row[5] = __shfl_down_sync(all, lane, 2, 8);
    row[6] = (int)__ballot_sync(all, lane % 3 == 0);
    row[7] = __any_sync(all, lane == 31) + 2 * __any_sync(all, lane == 32);
    row[8] = __all_sync(all, lane < 32) + 2 * __all_sync(all, lane < 31);
    row[9] = __reduce_add_sync(all, lane);
}
extern "C" __global__ void half_of_warp(int* y) {
    int lane = threadIdx.x;
    y[lane] = lane;
    if (lane < 16) y[lane] = __shfl_xor_sync(0x0000ffffu, lane, 1);
    else y[lane] = __shfl_xor_sync(0xffff0000u, lane, 2);
    __syncwarp();
    y[lane + 32] = y[31 - lane];
}
"""


def test_a_sum_by_shuffles(order):
    x = np.arange(96, dtype=np.int32)
    y = cupy.empty(3, np.int32)
    compiled(WARPS, "sum_of_warp")((1,), (96,), (cupy.asarray(x), y))
    np.testing.assert_array_equal(y.get(), x.reshape(3, 32).sum(1))


def test_warp_operations(order):
    y = cupy.empty((64, 10), np.int32)
    compiled(WARPS, "every_operation")((1,), (64,), (y,))
    lane = np.arange(64) % 32
    down = np.where(lane % 8 < 6, lane + 2, lane)
    multiples = int(np.uint32(sum(1 << i for i in range(0, 32, 3))).view(np.int32))
    expected = (
        5, (lane + 1) % 32, np.where(lane < 3, lane, lane - 3),
        np.where(lane > 28, lane, lane + 3), lane ^ 6, down, multiples, 1, 1, 496,
    )  # fmt: skip
    for column, values in enumerate(expected):
        np.testing.assert_array_equal(y.get()[:, column], values, err_msg=str(column))


def test_warp_operations_of_a_part(order):
    y = cupy.empty(64, np.int32)
    compiled(WARPS, "half_of_warp")((1,), (32,), (y,))
    lane = np.arange(32)
    first = np.where(lane < 16, lane ^ 1, lane ^ 2)
    np.testing.assert_array_equal(y.get(), np.concatenate([first, first[::-1]]))


TENSOR = r"""
extern "C" __global__ void tensor(const float* a, const float* b, float* c, int k) {
    int lane = threadIdx.x, group = lane >> 2, member = lane & 3;
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < k; i += 8) {
        const float *x = a + i + member, *y = b + i + member;
        unsigned left[4] = {cvt_tf32(x[group * k]), cvt_tf32(x[(group + 8) * k]),
                            cvt_tf32(x[group * k + 4]), cvt_tf32(x[(group + 8) * k + 4])};
        unsigned right[2] = {cvt_tf32(y[group * k]), cvt_tf32(y[group * k + 4])};
        mma_m16n8k8_tf32(d, left, right, d);
    }
    for (int i = 0; i < 4; i++) c[(group + 8 * (i >> 1)) * 8 + 2 * member + (i & 1)] = d[i];
}
extern "C" __global__ void rounded(const float* x, unsigned* y) {
    y[threadIdx.x] = cvt_tf32(x[threadIdx.x]);
}
"""


def tf32(x):
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def test_a_tensor_core_product(order):
    a, b = random(16, 32), random(8, 32)
    c = cupy.empty((16, 8), np.float32)
    compiled(TENSOR, "tensor")((1,), (32,), (cupy.asarray(a), cupy.asarray(b), c, np.int32(32)))
    exact = tf32(a).astype(np.float64) @ tf32(b).astype(np.float64).T
    assert_close(c.get(), exact, terms=32)


def test_tf32_keeps_ten_bits():
    one = np.float32(1)
    steps = [one, one + np.float32(2**-11), one + np.float32(2**-12), -one - np.float32(2**-11)]
    x = np.array([*steps, np.inf, np.nan], np.float32)
    y = cupy.empty(6, np.uint32)
    compiled(TENSOR, "rounded")((1,), (6,), (cupy.asarray(x), y))
    up = 1 + 2**-10
    np.testing.assert_array_equal(
        y.get().view(np.float32), np.array([1, up, 1, -up, np.inf, np.nan], np.float32)
    )


COPIES = r"""
extern "C" __global__ void reversed(const float* x, float* y, int n) {
    __shared__ float part[2][64];
    int i = threadIdx.x;
    cp_async_4(&part[0][i], x + i, true);
    cp_async_commit();
    for (int step = 0; step < n; step++) {
        int next = step + 1;
        cp_async_4(&part[next % 2][i], x + next * 64 + i, next < n);
        cp_async_commit();
#ifndef NO_WAIT
        cp_async_wait<1>();
#endif
#ifndef NO_BARRIER
        __syncthreads();
#endif
        y[step * 64 + i] = part[step % 2][63 - i];
        __syncthreads();
    }
}
"""


def reversed_by_copies(*options):
    x = random(4, 64)
    y = cupy.empty((4, 64), np.float32)
    compiled(COPIES, "reversed", *options)((1,), (64,), (cupy.asarray(x), y, np.int32(4)))
    return np.array_equal(y.get(), x[:, ::-1])


def test_copies_that_do_not_wait(order):
    assert reversed_by_copies()


COUNTING = r"""
extern "C" __global__ void counting(unsigned* counts, const int* x, int n,
                                    unsigned long long* sum) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        atomicAdd(&counts[x[i]], 1u);
        atomicMax(&counts[4], (unsigned)i);
        atomicAdd(sum, (unsigned long long)i);
    }
}
"""


def test_integer_atomics(order):
    x = np.random.default_rng(0).integers(0, 4, 100).astype(np.int32)
    counts, total = cupy.zeros(5, np.uint32), cupy.zeros((), np.uint64)
    arguments = counts, cupy.asarray(x), np.int32(100), total
    compiled(COUNTING, "counting")((4,), (32,), arguments)
    np.testing.assert_array_equal(counts.get(), [*np.bincount(x, minlength=4), 99])
    assert int(total) == 99 * 50


# ------------------------------------------------------------------ planted faults


def test_a_missing_barrier_is_caught(monkeypatch):
    for fault in ("-DNO_FIRST_BARRIER", "-DNO_SECOND_BARRIER"):
        results = []
        for order in ORDERS:
            monkeypatch.setenv("MINICNN_CUDA_ORDER", str(order))
            results.append(is_close(product(fault)))
        assert not all(results), f"{fault}: right in every order"


def test_shared_memory_that_is_not_written_is_nan():
    text = """
    extern "C" __global__ void unwritten(float* y) {
        __shared__ float fixed[32];
        extern __shared__ float chosen[];
        y[2 * threadIdx.x] = fixed[threadIdx.x];
        y[2 * threadIdx.x + 1] = chosen[threadIdx.x];
        fixed[threadIdx.x] = chosen[threadIdx.x] = 1.0f;
    }"""
    y = cupy.zeros(128, np.float32)
    compiled(text, "unwritten")((2,), (32,), (y[:64],), shared_mem=128)
    assert np.isnan(y.get()[:64]).all()


def test_a_missing_wait_or_barrier_of_copies_is_caught(monkeypatch):
    assert not reversed_by_copies("-DNO_WAIT")
    results = []
    for order in ORDERS:
        monkeypatch.setenv("MINICNN_CUDA_ORDER", str(order))
        results.append(reversed_by_copies("-DNO_BARRIER"))
    assert not all(results)


FAULTS = r"""
extern "C" __global__ void divergent(float* y) {
    if (threadIdx.x < 4) __syncthreads();
    y[threadIdx.x] = 1.0f;
}
extern "C" __global__ void two_barriers(float* y) {
    if (threadIdx.x < 4) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[threadIdx.x] = 1.0f;
}
extern "C" __global__ void lonely(int* y) {
    if (threadIdx.x == 3) y[0] = __shfl_sync(0x0000000fu, 1, 0);
    else __syncthreads();
}
extern "C" __global__ void beyond(float* y, int at) { y[at] = 1.0f; }
extern "C" __global__ void beyond_shared(float* y) {
    extern __shared__ float part[];
    part[threadIdx.x] = 1.0f;
    y[threadIdx.x] = part[0];
}
extern "C" __global__ void nowhere(float* y) { *(float*)(size_t)(8 + threadIdx.x) = y[0]; }
extern "C" __global__ void by_zero(int* y) { y[0] = (y[0] + 7) / y[1]; }
extern "C" __global__ void misaligned(float* y) {
    __shared__ float part[8];
    cp_async_16(&part[1], y, true);
}
"""


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("divergent", 64, r"kernel 'divergent', block \(0, 0, 0\), thread \(0, 0, 0\): "
         r"__syncthreads at .*:3 was reached by 4 of the 64 threads of the block; "
         r"thread \(4, 0, 0\) ended without it"),
        ("two_barriers", 64, r"__syncthreads at .*:8 was reached by 4 of the 64 threads of the "
         r"block; thread \(4, 0, 0\) waits at .*:10"),
        ("lonely", 4, r"__syncthreads at .*:16 was reached by 3 of the 4 threads of the block; "
         r"thread \(3, 0, 0\) waits at .*:15"),
        ("nowhere", 1, "kernel 'nowhere'.* touched memory that does not exist"),
        ("by_zero", 1, "divided an integer by zero"),
        ("misaligned", 1, "cp.async at an address that is no multiple of its size"),
    ],
)  # fmt: skip
def test_faults_name_the_kernel_and_the_thread(name, size, message):
    y = cupy.zeros(64, np.int32 if name in ("lonely", "by_zero") else np.float32)
    with pytest.raises(KernelFault, match=message):
        compiled(FAULTS, name)((1,), (size,), (y,))
    compiled(FAULTS, "beyond")((1,), (1,), (cupy.zeros(4, np.float32), np.int32(3)))


@pytest.mark.parametrize("at", [100, -1, 127, 300])
def test_a_write_beside_an_array_is_caught(at):
    y = cupy.zeros(100, np.float32)
    message = (
        f"'beyond' wrote outside an array of 400 bytes: at byte {4 * at + (0 if at > 0 else 3)}"
    )
    with pytest.raises(KernelFault, match=message):
        compiled(FAULTS, "beyond")((1,), (1,), (y, np.int32(at)))


def test_a_write_behind_dynamic_shared_memory_is_caught():
    y = cupy.zeros(32, np.float32)
    with pytest.raises(KernelFault, match="wrote 0 bytes behind the 124 bytes of dynamic shared"):
        compiled(FAULTS, "beyond_shared")((1,), (32,), (y,), shared_mem=124)


def test_a_wrong_stride_is_caught():
    text = """
    extern "C" __global__ void turned(const float* x, float* y, int rows, int columns) {
        int i = threadIdx.x, row = i / columns, column = i % columns;
        if (i < rows * columns) y[column * STRIDE + row] = x[i];
    }"""
    x = random(3, 5)
    for stride, right in (("rows", True), ("columns", False)):
        y = cupy.empty((5, 3), np.float32)
        kernel = compiled(text, "turned", f"-DSTRIDE={stride}")
        call = (1,), (32,), (cupy.asarray(x), y, np.int32(3), np.int32(5))
        if right:
            kernel(*call)
            np.testing.assert_array_equal(y.get(), x.T)
        else:
            with pytest.raises(KernelFault, match="wrote outside an array of 60 bytes"):
                kernel(*call)


def test_floating_point_atomics_do_not_compile():
    text = 'extern "C" __global__ void add(float* y) { atomicAdd(y, 1.0f); }'
    with pytest.raises(_build.CompileException, match="depend on the order of blocks"):
        compiled(text, "add")


def test_names_the_run_time_compiler_lacks_do_not_compile():
    text = 'extern "C" __global__ void f(float* y) { y[0] = INFINITY; }'
    with pytest.raises(_build.CompileException, match="INFINITY"):
        compiled(text, "f")


# ------------------------------------------------------------------ what a call refuses

ARGUMENTS = r"""
struct Pair { double value; const double* at; };
extern "C" __global__ void scaled(const float* x, float* y, Pair by, int n, unsigned char flag) {
    int i = threadIdx.x;
    if (i < n) y[i] = (float)((by.at ? *by.at : by.value) * x[i]) + flag;
}
"""
PAIR = np.dtype([("value", np.float64), ("at", np.uint64)], align=True)


def scaled_arguments():
    x, y = cupy.ones(8, np.float32), cupy.empty(8, np.float32)
    return [x, y, np.array([(2.0, 0)], PAIR), np.int32(8), np.uint8(0)]


def test_a_struct_by_value_or_an_address_in_it():
    arguments = scaled_arguments()
    kernel = compiled(ARGUMENTS, "scaled")
    assert kernel.parameters == ["*f4", "*f4", "s16", "i4", "u1"]
    kernel((1,), (32,), tuple(arguments))
    assert arguments[1].get().tolist() == [2.0] * 8
    number = cupy.asarray(3.0)
    arguments[2]["at"] = number.data.ptr
    kernel((1,), (32,), tuple(arguments))
    assert arguments[1].get().tolist() == [3.0] * 8


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, np.zeros(8, np.float32), "argument 0 must be a device array or an address"),
        (0, 0, "argument 0 must be a device array or an address in numpy.uint64, not int"),
        (2, np.zeros(1, np.float64), "argument 2 has 8 bytes, but the kernel's struct 16"),
        (2, np.zeros(2, PAIR), "argument 2 must be one element of a structured array"),
        (3, 8, "argument 3 must be a NumPy scalar of known size for 'i4', not int"),
        (3, np.int64(8), "argument 3 is int64, but the kernel's parameter is 'i4'"),
        (3, np.float32(8), "argument 3 is float32, but the kernel's parameter is 'i4'"),
    ],
)
def test_arguments_of_the_wrong_kind(position, value, message):
    arguments = scaled_arguments()
    arguments[position] = value
    with pytest.raises(TypeError, match=message):
        compiled(ARGUMENTS, "scaled")((1,), (32,), tuple(arguments))


def test_arrays_of_the_wrong_kind():
    kernel = compiled(ARGUMENTS, "scaled")
    arguments = scaled_arguments()
    with pytest.raises(TypeError, match="argument 0 is an array of float64, but the kernel reads"):
        kernel((1,), (32,), (cupy.ones(8), *arguments[1:]))
    with pytest.raises(ValueError, match=r"argument 0 has strides \(8,\)"):
        kernel((1,), (32,), (cupy.ones(16, np.float32)[::2], *arguments[1:]))
    with pytest.raises(TypeError, match="4 arguments for 5 parameters"):
        kernel((1,), (32,), tuple(arguments[1:]))


def test_launches_beyond_the_limits_of_a_gpu():
    kernel, arguments = compiled(ARGUMENTS, "scaled"), tuple(scaled_arguments())
    with pytest.raises(ValueError, match="more than 1024 threads"):
        kernel((1,), (64, 32), arguments)
    with pytest.raises(ValueError, match=r"block \(1, 1, 128\) must lie between 1 and"):
        kernel((1,), (1, 1, 128), arguments)
    with pytest.raises(ValueError, match=r"grid \(0,\) must lie between 1 and"):
        kernel((0,), (32,), arguments)
    with pytest.raises(ValueError, match=r"grid \(1, 65536\) must lie between 1 and"):
        kernel((1, 65536), (32,), arguments)
    with pytest.raises(
        ValueError, match="65536 bytes of dynamic shared memory; the limit is 49152"
    ):
        kernel((1,), (32,), arguments, shared_mem=65536)
    kernel.max_dynamic_shared_size_bytes = 65536
    kernel((1,), (32,), arguments, shared_mem=65536)
    with pytest.raises(ValueError, match="of 232448"):
        kernel.max_dynamic_shared_size_bytes = 2**18
