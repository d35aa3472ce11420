"""The stand-in for CuPy refuses what CuPy refuses, and shows what a GPU would do wrong silently.

Runs where ``cupy`` is the stand-in; test_gpu_on_cpu.py starts such a process.
"""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest

_build = pytest.importorskip("cupy._build", reason="only on the stand-in: test_gpu_on_cpu.py")
cupy = pytest.importorskip("cupy")
cupyx = pytest.importorskip("cupyx")


@pytest.fixture
def stream():
    made = cupy.cuda.Stream(non_blocking=True)
    yield made
    if made.is_capturing():
        made.end_capture()


@pytest.fixture
def pool():
    """A pool of the test's own, from which all arrays of the test come."""
    made = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(made.malloc):
        yield made


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------ arrays


def test_an_array_is_no_numpy_array_and_does_not_mix_with_one():
    host = numbers(3)
    device = cupy.asarray(host)
    assert not isinstance(device, np.ndarray)
    for mixed in (
        lambda: device + host,
        lambda: host + device,
        lambda: cupy.add(device, host),
        lambda: cupy.where(device > 0, device, host),
        lambda: device.__iadd__(host),
        lambda: device.__setitem__(0, host[:1]),
        lambda: cupy.concatenate([device, host]),
        lambda: np.add(device, device, out=host),
    ):
        with pytest.raises(TypeError):
            mixed()
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(device)


def test_results_are_those_of_numpy_on_the_device():
    host = numbers(3, 4)
    device = cupy.asarray(host)
    for of in (
        lambda x: x + 1, lambda x: 2 / x, lambda x: -x, lambda x: x > 0, lambda x: x @ x.T,
        lambda x: x.sum(axis=0), lambda x: x.max(), lambda x: x.mean(axis=1, keepdims=True),
        lambda x: x[1], lambda x: x[:, ::2], lambda x: x.T, lambda x: x[x > 0],
        lambda x: x.reshape(4, 3), lambda x: x.T.reshape(-1), lambda x: x.astype(np.float64),
        lambda x: np.float32(3) * x, lambda x: x**2, lambda x: divmod(x, 2)[1], lambda x: abs(x),
        lambda x: x.argmax(axis=1), lambda x: x.swapaxes(0, 1), lambda x: x[None],
    ):  # fmt: skip
        found, expected = of(device), np.asarray(of(host))
        assert isinstance(found, cupy.ndarray)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found.get(), expected)


def test_functions_are_those_of_numpy_on_the_device():
    host = numbers(3, 4)
    device = cupy.asarray(host)
    for of in (
        lambda xp, x: xp.exp(x), lambda xp, x: xp.where(x > 0, x, 0),
        lambda xp, x: xp.concatenate([x, x], axis=1), lambda xp, x: xp.zeros_like(x),
        lambda xp, x: xp.full(3, 2.5), lambda xp, x: xp.arange(1, 5, dtype=np.uint64),
        lambda xp, x: xp.broadcast_to(x[0], (2, 4)), lambda xp, x: xp.maximum(x, 0),
        lambda xp, x: xp.take_along_axis(x, x.argsort(axis=1), 1),
        lambda xp, x: xp.divmod(x, 2)[0], lambda xp, x: xp.isnan(x), lambda xp, x: xp.sum(x, 0),
        lambda xp, x: xp.ascontiguousarray(x.T), lambda xp, x: xp.log(x * x),
        lambda xp, x: xp.stack([x, x]), lambda xp, x: xp.eye(3), lambda xp, x: xp.array([1, 2]),
    ):  # fmt: skip
        found, expected = of(cupy, device), of(np, host)
        assert isinstance(found, cupy.ndarray)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found.get(), expected)
    assert isinstance(np.exp(device), cupy.ndarray)
    assert isinstance(np.sum(device), cupy.ndarray)
    assert cupy.float32 is np.float32
    assert cupy.get_array_module(device) is cupy
    assert cupy.get_array_module(host) is np
    with pytest.raises(AttributeError):
        cupy.float128  # noqa: B018 - CuPy has none


def test_views_share_memory_and_copies_do_not():
    device = cupy.asarray(numbers(3, 4))
    for view in (device[1], device.T, device.reshape(-1), device[None], cupy.squeeze(device[:1])):
        assert view.base is device
        assert not view.flags.owndata
        assert cupy.may_share_memory(view, device)
    row = device[1]
    assert row.data.ptr == device.data.ptr + 16
    row[...] = 7
    row += 1
    assert device.get()[1].tolist() == [8.0] * 4
    for twin in (device.copy(), copy.deepcopy(device), pickle.loads(pickle.dumps(device))):
        assert twin.base is None
        assert not cupy.may_share_memory(twin, device)
        np.testing.assert_array_equal(twin.get(), device.get())


def test_layout_follows_the_input_as_in_cupy():
    device = cupy.asarray(numbers(3, 4))
    assert (device.T + 1).strides == (4, 16)
    assert cupy.empty_like(device.T).flags.f_contiguous
    assert cupy.ascontiguousarray(device) is device
    assert cupy.asarray(device) is device
    assert cupy.ascontiguousarray(device.T).flags.c_contiguous


def test_what_is_copied_to_the_device_must_fit():
    device = cupy.zeros(3, np.float32)
    device.set(np.ones(3, np.float32))
    assert device.get().tolist() == [1.0] * 3
    with pytest.raises(TypeError, match="float64 array cannot be set to float32 array"):
        device.set(np.ones(3))
    with pytest.raises(ValueError, match="Shape mismatch"):
        device.set(np.ones(4, np.float32))
    with pytest.raises(TypeError, match=r"Only numpy\.ndarray can be set"):
        device.set([1, 2, 3])


def test_adding_at_an_index_that_occurs_twice():
    device = cupy.zeros(3)
    cupy.add.at(device, cupy.asarray([0, 0, 2]), cupy.asarray([1.0, 2.0, 4.0]))
    assert device.get().tolist() == [3.0, 0.0, 4.0]


# ------------------------------------------------------------------ memory


def test_a_pool_counts_and_hands_out_again_what_was_given_back(pool):
    first = cupy.empty(100, np.float32)
    assert (pool.used_bytes(), pool.total_bytes(), pool.n_free_blocks()) == (512, 512, 0)
    address = first.data.ptr
    del first
    assert (pool.used_bytes(), pool.total_bytes(), pool.n_free_blocks()) == (0, 512, 1)
    assert cupy.empty(90, np.float32).data.ptr == address
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


def test_a_view_keeps_memory_in_use(pool):
    whole = cupy.ones(4)
    part = whole[1:2]
    del whole
    assert pool.used_bytes() == 512
    assert part.get().tolist() == [1.0]


def test_memory_that_is_not_written_is_poison(pool):
    for dtype, poison in ((np.float32, np.nan), (np.int32, -1), (np.uint8, 255)):
        fresh = cupy.empty(3, dtype)
        np.testing.assert_array_equal(fresh.get(), np.full(3, poison, dtype))
        fresh[...] = 1
        address = fresh.data.ptr
        del fresh
        again = cupy.empty(3, dtype)
        assert again.data.ptr == address
        np.testing.assert_array_equal(again.get(), np.full(3, poison, dtype))
        del again


def test_running_out_of_memory(pool):
    pool.set_limit(size=4096)
    kept = cupy.empty(512, np.float32)
    del kept  # a free block of the wrong size is given up for one of the right size
    kept = cupy.empty(1024, np.float32)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="allocating 512 bytes"):
        cupy.empty(1)
    del kept
    with pytest.raises(MemoryError, match="Out of memory"):
        cupy.cuda.MemoryPool().malloc(2**50)


# ------------------------------------------------------------------ capture and replay


def test_a_captured_operation_runs_at_the_replay_and_not_before(stream):
    x = cupy.zeros(3)
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        y = x + 1
        x += y
        z = y.reshape(3, 1)[:, 0]
        graph = stream.end_capture()
    assert np.isnan(y.get()).all()
    assert x.get().tolist() == [0.0] * 3
    for expected in (1.0, 3.0, 7.0):
        graph.launch(stream)
        assert x.get().tolist() == [expected] * 3
    assert z.get().tolist() == y.get().tolist() == [4.0] * 3


def test_a_number_in_a_captured_graph_is_stale(stream):
    lr, on_device = 1.0, cupy.asarray(1.0)
    p, q = cupy.zeros(1), cupy.zeros(1)
    with stream:
        stream.begin_capture()
        p -= lr
        q -= on_device
        graph = stream.end_capture()
    graph.launch()
    lr = 10.0
    on_device[...] = lr
    graph.launch()
    assert (p.item(), q.item()) == (-2.0, -11.0)


def test_an_argument_of_a_captured_kernel_is_stale(stream):
    text = (
        'extern "C" __global__ void step(float* p, const float* lr, float baked)'
        "{ p[0] -= lr[0]; p[1] -= baked; }"
    )
    kernel = cupy.RawModule(code=text).get_function("step")
    p, lr = cupy.zeros(2, np.float32), cupy.ones(1, np.float32)
    with stream:
        stream.begin_capture()
        kernel((1,), (1,), (p, lr, np.float32(1.0)))
        graph = stream.end_capture()
    assert p.get().tolist() == [0.0, 0.0]
    graph.launch()
    lr[...] = 10
    graph.launch()
    assert p.get().tolist() == [-11.0, -2.0]


def test_memory_given_back_under_a_captured_graph_is_seen(stream):
    """The temporary of a capture is handed out to the next array of its size."""
    x, y = cupy.ones(64), cupy.empty(64)
    with stream:
        stream.begin_capture()
        temporary = x * 2
        y[...] = temporary
        graph = stream.end_capture()
    del temporary
    stranger = cupy.full(64, 5.0)
    graph.launch()
    assert stranger.get().tolist() == [2.0] * 64  # overwritten, as on a GPU
    del x
    gc.collect()
    graph.launch()
    assert np.isnan(y.get()).all()  # what it reads is nobody's any more


def test_a_private_pool_keeps_a_graph_apart(stream, pool):
    x, y = cupy.ones(64), cupy.empty(64)
    with cupy.cuda.using_allocator(cupy.cuda.MemoryPool().malloc), stream:
        stream.begin_capture()
        y[...] = x * 2
        graph = stream.end_capture()
    stranger = cupy.full(64, 5.0)
    graph.launch()
    assert stranger.get().tolist() == [5.0] * 64
    assert y.get().tolist() == [2.0] * 64


def test_the_host_may_not_wait_during_a_capture(stream):
    x = cupy.ones((2, 2))
    host = np.ones(2)
    with stream:
        stream.begin_capture()
        for wait in (
            lambda: x.get(), lambda: float(x[0, 0]), lambda: x[0, 0].item(), lambda: bool(x[0, 0]),
            lambda: cupy.asarray(host), lambda: cupy.asarray(3), lambda: x[host > 0],
            lambda: cupy.nonzero(x), lambda: x[x > 0], lambda: cupy.asnumpy(x), lambda: repr(x),
            lambda: x[0].set(host), lambda: stream.synchronize(),
            lambda: cupy.cuda.Device().synchronize(),
            lambda: cupy.cuda.runtime.deviceSynchronize(),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match="captur"):
                wait()
        for product in (
            lambda: cupy.matmul(x, x), lambda: x @ x, lambda: x.dot(x), lambda: cupy.dot(x, x),
            lambda: cupy.tensordot(x, x), lambda: cupy.einsum("ij,jk", x, x),
            lambda: np.matmul(x, x),
        ):  # fmt: skip
            with pytest.raises(NotImplementedError, match="cuBLAS API during stream capture"):
                product()
        stream.end_capture()
    assert float(x[0, 0]) == 1.0


def test_only_the_capturing_stream_records(stream):
    x = cupy.zeros(1)
    stream.begin_capture()
    x += 1
    assert float(x[0]) == 1.0
    with stream:
        assert cupy.cuda.get_current_stream() is stream
        with pytest.raises(RuntimeError, match="already capturing"):
            stream.begin_capture()
    stream.end_capture()
    with pytest.raises(RuntimeError, match="is not capturing"):
        stream.end_capture()
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cupy.cuda.Stream.null.begin_capture()
    assert cupy.cuda.get_current_stream() is cupy.cuda.Stream.null


def test_an_index_on_the_device_is_read_at_each_replay(stream):
    table, index = cupy.asarray(numbers(8)), cupy.asarray([1, 2])
    with stream:
        stream.begin_capture()
        chosen = table[index]
        index += 1
        graph = stream.end_capture()
    for first in (1, 2):
        graph.launch()
        np.testing.assert_array_equal(chosen.get(), table.get()[[first, first + 1]])


def test_pinned_memory_is_copied_at_each_replay(stream):
    pinned, x = cupyx.empty_pinned(3, np.float32), cupy.empty(3, np.float32)
    with stream:
        stream.begin_capture()
        x.set(pinned, stream=stream)
        graph = stream.end_capture()
    for value in (1.0, 2.0):
        pinned[...] = value
        graph.launch()
        assert x.get().tolist() == [value] * 3


# ------------------------------------------------------------------ device, events, modules


def test_the_device():
    assert cupy.is_available()
    assert cupy.cuda.runtime.getDeviceCount() == 1
    device = cupy.cuda.Device()
    assert (device.id, device.compute_capability) == (0, "90")
    assert device.attributes["MultiProcessorCount"] > 0
    assert b"stand-in" in cupy.cuda.runtime.getDeviceProperties(0)["name"]
    assert cupy.cuda.runtime.driverGetVersion() >= cupy.cuda.runtime.runtimeGetVersion()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="invalid device ordinal"):
        cupy.cuda.Device(1)


def test_events_measure_time():
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    end.record()
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        cupy.cuda.get_elapsed_time(start, cupy.cuda.Event())


def test_a_kernel_that_is_not_there():
    module = cupy.RawModule(code='extern "C" __global__ void here() {}')
    with pytest.raises(RuntimeError, match=r"no kernel 'there' among \['here'\]"):
        module.get_function("there")
    with pytest.raises(_build.CompileException, match="error"):
        cupy.RawModule(code="no C++ at all").compile()
    kernel = module.get_function("here")
    assert kernel.local_size_bytes == 0
    assert kernel.max_dynamic_shared_size_bytes == 49152


def test_kernels_are_found_behind_macros_and_in_their_own_files(tmp_path):
    (tmp_path / "part.cuh").write_text(
        '#define KERNEL(n) extern "C" __global__ void __launch_bounds__(32) n(int* y)\n'
    )
    text = '#include "part.cuh"\nKERNEL(one) { y[0] = VALUE; }\nKERNEL(two) { __trap(); }\n'
    (tmp_path / "own.cu").write_text(text)
    module = cupy.RawModule(code=text, options=(f"-I{tmp_path}", "-DVALUE=5"))
    y = cupy.zeros(1, np.int32)
    module.get_function("one")((1,), (1,), (y,))
    assert int(y[0]) == 5
    with pytest.raises(RuntimeError, match=r"__trap\(\) \(.*/own\.cu:3\)"):
        module.get_function("two")((1,), (1,), (y,))
