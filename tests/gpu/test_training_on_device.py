"""Training, evaluation and the optimizer's state on a GPU, and what is said where that fails."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
from device_runs import OPTIMIZERS, REASON, SETS, loader, network, trainer

from minicnn import functional as F
from minicnn import nn, optim, random
from minicnn.autograd import Tensor
from minicnn.data import DeviceLoader
from minicnn.errors import BackendError, DeviceError, NonFiniteError, OutOfMemoryError
from minicnn.nn.prediction import predict
from minicnn.testing.tolerance import assert_close, to_host
from minicnn.training.config import TrainConfig
from minicnn.training.evaluation import evaluate, features, probabilities
from minicnn.training.run import load_model, new_run, resumed_run
from minicnn_kernels import cupy_probe, registry
from minicnn_kernels.precision import allow_tf32

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(params=SETS)
def backend(request):
    with registry.use_backend(request.param), allow_tf32(False):
        yield request.param


@pytest.mark.parametrize("optimizer", ["momentum", "plain", "rmsprop"])
def test_a_training_equals_the_one_on_the_cpu(backend, optimizer):
    trained = []
    for device in ("cpu", "cuda"):
        one = trainer(device, optimizer)
        one.fit(loader(), loader(9, 4), epochs=2)
        trained.append(one)
    on_cpu, on_gpu = trained
    assert on_gpu.model.device == "cuda"
    found = on_gpu.model.state_dict()
    for name, expected in on_cpu.model.state_dict().items():
        # Each step adds the rounding of sums of at most 64 terms, and enlarges what was there.
        steps = on_cpu.position.step
        assert_close(found[name], expected, terms=64 * steps, condition=steps, what=name)
    assert on_cpu.position == on_gpu.position
    assert on_cpu.state()[2]["random"] == on_gpu.state()[2]["random"]


def test_evaluation_is_that_of_the_cpu(backend):
    random.seed(3)
    model = network()
    batches = list(loader(9, 4).iterate(0))
    expected = evaluate(model, batches), probabilities(model, batches)[0]
    expected_rows = predict(model, batches[0][0])
    expected_maps = features(model, batches, "4")
    model.to("cuda")
    on_gpu = evaluate(model, batches)
    assert on_gpu.loss == pytest.approx(expected[0].loss, rel=2**-9)
    assert on_gpu.confusion.matrix.sum() == 9
    np.testing.assert_allclose(probabilities(model, batches)[0], expected[1], atol=2**-9)
    np.testing.assert_allclose(predict(model, batches[0][0]), expected_rows, atol=2**-9)
    np.testing.assert_allclose(features(model, batches, "4"), expected_maps, atol=2**-8)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_of_an_optimizer_follows_its_parameters(backend, optimizer):
    p = nn.Parameter(np.ones(3, np.float32))
    holder = nn.Sequential(nn.Linear(1, 1))
    holder.register_parameter("p", p)
    update, twin = (OPTIMIZERS[optimizer]([q]) for q in (p, nn.Parameter(np.ones(3, np.float32))))
    (q,) = twin.param_groups[0]["params"]
    for device in ("cpu", "cuda", "cuda", "cpu"):
        holder.to(device)
        assert registry.device_of(p.array) == device
        gradient = np.array([1.0, -2.0, 0.5], np.float32)
        p.grad = registry.kernels(device).xp.asarray(gradient)
        q.grad = gradient
        update.step()
        twin.step()
    assert_close(to_host(p.array), q.array, terms=16, condition=16, what=optimizer)
    loaded = OPTIMIZERS[optimizer]([p])
    holder.to("cuda")
    loaded.load_state_dict(update.state_dict())
    for state in loaded.state.values():
        assert all(registry.device_of(state[name]) == "cuda" for name in loaded.state_arrays)


def test_clipping_stays_on_the_device(backend):
    grads = [np.full((3, 2), 3.0, np.float32), np.full(4, -2.0, np.float32)]
    for norm_type in (2.0, 1.0, np.inf):
        on_cpu = [nn.Parameter(np.zeros_like(g)) for g in grads]
        on_gpu = [nn.Parameter(registry.kernels("cuda").xp.zeros(g.shape, g.dtype)) for g in grads]
        for p, q, g in zip(on_cpu, on_gpu, grads, strict=True):
            p.grad, q.grad = g.copy(), registry.kernels("cuda").xp.asarray(g)
        expected = optim.clip_grad_norm_(on_cpu, 1.0, norm_type)
        total = optim.clip_grad_norm_(on_gpu, 1.0, norm_type)
        assert registry.device_of(total) == "cuda"
        assert total.shape == ()
        assert float(total) == pytest.approx(expected, rel=1e-12)
        for p, q in zip(on_cpu, on_gpu, strict=True):
            np.testing.assert_allclose(to_host(q.grad), p.grad, rtol=2**-22)
        optim.clip_grad_norm_(on_gpu, 1e9, norm_type)
        for p, q in zip(on_cpu, on_gpu, strict=True):
            np.testing.assert_allclose(to_host(q.grad), p.grad, rtol=2**-22)
    on_gpu[0].grad[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="the norm of the gradients is nan"):
        optim.clip_grad_norm_(on_gpu, 1.0, error_if_nonfinite=True)
    optim.clip_grad_norm_(on_gpu, 1.0)
    assert np.isnan(to_host(on_gpu[1].grad)).all()


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_takes_labels_from_either_side(backend, weight, smoothing):
    x, labels = np.random.default_rng(0).random((5, 3), np.float32), np.array([0, 2, 1, 1, 0])
    expected = F.cross_entropy(Tensor(x), labels, weight, label_smoothing=smoothing).item()
    kept = labels != 1
    without = F.cross_entropy(Tensor(x[kept]), labels[kept], weight, label_smoothing=smoothing)
    without = without.item()
    xp = registry.kernels("cuda").xp
    logits = Tensor(xp.asarray(x))
    for given in (labels, labels.tolist(), xp.asarray(labels)):
        loss = F.cross_entropy(logits, given, weight, label_smoothing=smoothing)
        assert registry.device_of(loss.array) == "cuda"
        assert loss.item() == pytest.approx(expected, rel=2**-18)
        rest = F.cross_entropy(logits, given, weight, ignore_index=1, label_smoothing=smoothing)
        assert rest.item() == pytest.approx(without, rel=2**-18)
    assert np.isnan(F.cross_entropy(logits, xp.asarray([0, 3, 1, 1, 0])).item())
    assert np.isnan(F.cross_entropy(logits, xp.asarray([0, -1, 1, 1, 0])).item())


def test_a_loss_that_is_no_number_names_the_layer(backend):
    broken = trainer("cuda")
    next(broken.model.parameters()).array[...] = np.inf
    with pytest.raises(NonFiniteError, match=r"the parameter 0\.weight holds non-finite values"):
        broken.fit(loader(), epochs=1)


def test_a_run_moves_everything_and_its_checkpoints_load_on_either_side(tmp_path, backend):
    from minicnn.training.config import TrainConfig

    config = TrainConfig(
        model="lenet5", source="sample", images=20, batch_size=5, epochs=1, backend=backend,
        output=str(tmp_path), name="r", validation=0.2, prefetch=0,
    )  # fmt: skip
    run = new_run(config)
    assert run.model.device == "cuda"
    assert run.batches_fault is None
    run.fit()
    assert run.trainer.history.records[-1]["val_loss"] > 0
    on_cpu, _ = load_model(run.folder)
    on_gpu, _ = load_model(run.folder, backend)
    assert (on_cpu.device, on_gpu.device) == ("cpu", "cuda")
    for name, array in on_cpu.state_dict().items():
        np.testing.assert_array_equal(array, on_gpu.state_dict()[name])
    resumed = resumed_run(run.folder, {"epochs": 2, "schedule": "constant", "backend": "numpy"})
    assert resumed.model.device == "cpu"


# ---------------------------------------------------------------------- messages


def test_pictures_of_ones_own_lie_on_the_device(tmp_path, backend):
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in ("a", "b"):
        folder = tmp_path / "pictures" / kind
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    shared = {"data": str(tmp_path / "pictures"), "model": "lenet5", "size": 28, "batch_size": 4}
    settings = TrainConfig(**shared, balance="loss", epochs=1, output=str(tmp_path / "out"))
    with registry.use_backend(backend):
        run = new_run(dataclasses.replace(settings, backend=backend))
        assert isinstance(run.train, DeviceLoader)
        assert run.batches_fault is None
        own = run.train.loader.iterate(0)
        for (sent, labels), (images, expected) in zip(run.train.iterate(0), own, strict=True):
            np.testing.assert_array_equal(to_host(sent), images)
            np.testing.assert_array_equal(to_host(labels), expected)
        run.fit()
        assert run.test()[0].confusion.matrix.sum() == 3


def test_mixed_devices_are_named():
    model = nn.Linear(2, 2).to("cuda")
    with pytest.raises(DeviceError, match=r"argument 0 on cpu, argument 1 on cuda"):
        model(Tensor(np.ones((1, 2), np.float32)))
    p = nn.Parameter(np.ones(2, np.float32))
    update = optim.SGD([p], 0.1)
    p.grad = registry.kernels("cuda").xp.ones(2, np.float32)
    with pytest.raises(DeviceError, match=r"SGD\.step: argument 0 on cpu, argument 1 on cuda"):
        update.step()


def test_out_of_memory_says_what_is_free_and_what_to_do():
    cupy = registry.kernels("cuda").xp
    pool = cupy.get_default_memory_pool()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).to("cuda")
    x = Tensor(cupy.zeros((512, 1, 8, 8), np.float32))
    before = pool.get_limit()
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 512)
    try:
        with pytest.raises(
            OutOfMemoryError, match=r"out of memory \(Out of memory allocating"
        ) as e:
            model(x)
        assert "are free" in str(e.value)
        assert "Use a smaller batch" in str(e.value)
        assert type(e.value.__cause__).__module__.startswith("cupy")
        with pytest.raises(OutOfMemoryError, match=r"moving an array \(256, 256\)"):
            nn.Linear(256, 256).to("cuda")
    finally:
        pool.set_limit(size=before)
    assert model(x).shape == (512, 3)


def fake(driver: int, devices: int = 1, works: bool = True, broken: str = ""):
    """A module like cupy, of CUDA 13."""

    def arange(count):
        if broken:
            raise RuntimeError(broken)
        return np.arange(count) if works else np.zeros(count)

    runtime = types.SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 13000,
        getDeviceCount=lambda: devices,
    )
    return types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime), arange=arange)


@pytest.mark.parametrize(
    ("cupy", "message"),
    [
        (fake(0), "there is no NVIDIA driver on this machine"),
        (fake(12040), r"serves CUDA 12\.4, and CuPy was built for CUDA 13\.0; .* cupy-cuda12x"),
        (fake(13000, devices=0), "the driver knows no CUDA device"),
        (fake(13000, works=False), "computed nonsense"),
        (fake(13000, broken="no NVRTC"), r"cannot run a kernel \(no NVRTC\).*extra \"gpu\""),
    ],
)
def test_what_is_missing_is_said(monkeypatch, cupy, message):
    monkeypatch.setitem(__import__("sys").modules, "cupy", cupy)
    with pytest.raises(BackendError, match=message):
        cupy_probe.usable_cupy("cupy")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("cupy", ImportError, 'CuPy is not installed; install minicnn with the extra "gpu"'),
        ("libcudart", BackendError, "CuPy is installed but cannot be loaded"),
    ],
)
def test_a_cupy_that_does_not_load(monkeypatch, name, kind, message):
    import builtins

    real = builtins.__import__

    def refuse(module, *rest, **kwargs):
        if module == "cupy":
            raise ImportError("it is not there", name=name)
        return real(module, *rest, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(kind, match=message):
        cupy_probe.usable_cupy("cupy")
