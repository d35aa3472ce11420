"""The architectures that torchvision has: the same names, shapes and, with its weights, outputs.

Outputs are compared in float64 after a trip through a .pth file. How far rounding may carry them
apart is measured and not guessed: the error of PyTorch's own float32, which passes through the same
layers, is scaled to float64's finer steps. A wrong stride, epsilon or order of layers is larger by
orders of magnitude.
"""

import contextlib
import copy
import importlib.util
import re
import warnings

import numpy as np
import pytest
from networks import known, torchvision_models

import minicnn
from minicnn import Tensor, load_weights, models, nn
from minicnn.autograd import no_grad
from minicnn.errors import MiniCNNError
from minicnn.testing import CheckError, assert_close
from minicnn.testing.tolerance import largest
from minicnn_kernels.shapes import blank

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages say while PyTorch is imported
    torch = pytest.importorskip("torch", reason='PyTorch is the extra "parity"')
if importlib.util.find_spec("torchvision") is None:
    pytest.skip('torchvision is in the extra "parity"', allow_module_level=True)

THEIRS = [entry for entry in known() if entry.torchvision]
ALSO = ("resnet50",)  # the bottleneck block, which the smallest of its family does not have
LARGE = 100_000_000  # parameters: gigabytes of memory
SIZES = (64, 96, 128, 192, 224, 299)  # of images, in order of preference


def family(entry):
    """``resnet`` for resnet18."""
    return re.match(r"\D+", entry.torchvision).group()


def representatives():
    """The smallest of each family and those of `ALSO`, the large ones marked as slow."""
    smallest = {}
    for entry in sorted(THEIRS, key=lambda entry: -entry.facts["params"]):
        smallest[family(entry)] = entry
    chosen = [e for e in THEIRS if e in smallest.values() or e.torchvision in ALSO]
    return [
        pytest.param(
            entry,
            id=entry.torchvision,
            marks=[pytest.mark.slow] if entry.facts["params"] > LARGE else [],
        )
        for entry in chosen
    ]


def torch_model(name, num_classes, device):
    """Torchvision's network, without the slow initialisation that two of them ask about."""
    settings = {"num_classes": num_classes, "weights": None}
    if name in ("googlenet", "inception_v3"):
        settings |= {"init_weights": False, "aux_logits": True}
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        return torchvision_models().get_model(name, **settings)


def num_classes(entry):
    return models.find(entry.model).preset(entry.preset).num_classes


def shapes(state):
    return {name: tuple(array.shape) for name, array in state.items()}


@pytest.mark.parametrize("entry", THEIRS, ids=lambda entry: entry.torchvision)
def test_names_and_shapes_are_torchvisions(entry):
    model = entry.outline()
    theirs = torch_model(entry.torchvision, num_classes(entry), "meta")
    ours = {name: p.shape for name, p in model.named_parameters()}
    ours |= {name: b.shape for name, b in model.named_buffers()}
    assert ours == shapes(theirs.state_dict())


def scatter(model):
    """Give the parameters that begin as 0 or 1, and the statistics, values that can be wrong."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, array in model.state_dict().items():
            kind = name.split(".")[-1]
            if kind == "running_var" or (kind == "weight" and array.ndim == 1):
                array.uniform_(0.5, 1.5, generator=draw)
            elif kind in ("running_mean", "bias"):
                array.normal_(0, 0.1, generator=draw)


def without_chance(model, dropout):
    for module in model.modules():
        if isinstance(module, dropout):
            module.p = 0.0


def outputs(y):
    """Name -> logits; a network with auxiliary classifiers has several while it trains."""
    if not isinstance(y, tuple):
        return {"logits": y}
    return y._asdict() if hasattr(y, "_asdict") else dict(enumerate(y))


def compare(ours, theirs, path, images):
    """Raise `CheckError` unless both give the same in eval and in train mode.

    ours : a network, with or without memory for weights
    theirs : PyTorch's in float32; its state is passed on through the file ``path``
    """
    scatter(theirs)
    without_chance(theirs, (torch.nn.Dropout,))
    without_chance(ours, (nn.Dropout,))
    torch.save(theirs.state_dict(), path)
    load_weights(ours, path)
    ours.astype(np.float64)
    sums = [p[0].size for p in ours.parameters()]  # of products, for one number of a map
    terms = max(*sums, images[:, 0].size)  # a running mean adds up as many numbers as pixels
    x, exactly = torch.from_numpy(images), copy.deepcopy(theirs).double()
    for training in (False, True):
        with torch.no_grad(), no_grad():
            rough = results(theirs.train(training), x)
            exact = results(exactly.train(training), x.double())
            found = results(ours.train(training), Tensor(images.astype(np.float64)))
        check(found, exact, rough, terms, "training" if training else "evaluation")


def results(model, x):
    """The outputs, and the running statistics that the pass leaves behind, by name."""
    named = {f"output {name}": array for name, array in outputs(model(x)).items()}
    named |= dict(model.named_buffers())
    return {n: np.array(a.numpy() if hasattr(a, "numpy") else a) for n, a in named.items()}


def check(found, exact, rough, terms, mode):
    """Compare all; how much the layers magnify a rounding, PyTorch's float32 has shown."""
    assert found.keys() == exact.keys()
    for name, expected in exact.items():
        error = float(np.abs(rough[name] - expected).max()) / np.finfo(np.float32).eps
        condition = max(1.0, error / largest(expected))
        what = f"{name} in {mode}"
        assert_close(found[name], expected, terms=terms, condition=condition, what=what)


def image_size(entry):
    """The first of `SIZES` at which both networks train; nothing is computed."""
    ours, theirs = entry.outline(), torch_model(entry.torchvision, num_classes(entry), "meta")
    for size in SIZES:
        shape = (2, 3, size, size)
        with contextlib.suppress(MiniCNNError, RuntimeError), no_grad(), torch.no_grad():
            theirs.train()(torch.empty(shape, device="meta"))
            with minicnn.use_backend("shapes"):
                ours.train()(Tensor(blank(shape, np.float32)))
            return size
    raise AssertionError(f"{entry.torchvision} trains on no images of {SIZES} in both libraries")


@pytest.mark.parametrize("entry", representatives())
def test_outputs_are_torchvisions(entry, tmp_path):
    size = image_size(entry)
    images = np.random.default_rng(0).standard_normal((3, 3, size, size)).astype(np.float32)
    theirs = torch_model(entry.torchvision, num_classes(entry), "cpu")
    with minicnn.use_backend("numpy"):
        compare(entry.outline(), theirs, tmp_path / "theirs.pth", images)


# The comparison itself, on a small stand-in ------------------------------------------------------


def small(library, **changes):
    settings = {"stride": 2, "eps": 1e-5, "momentum": 0.1, "ceil_mode": False} | changes
    return library.Sequential(
        library.Conv2d(3, 8, 3, stride=settings["stride"], padding=1, bias=False),
        library.BatchNorm2d(8, eps=settings["eps"], momentum=settings["momentum"]),
        library.ReLU(),
        library.MaxPool2d(3, 2, ceil_mode=settings["ceil_mode"]),
        library.Conv2d(8, 8, 3, padding=1),
        library.AdaptiveAvgPool2d(1),
        library.Flatten(),
        library.Dropout(0.5),
        library.Linear(8, 5),
    )


def compare_small(tmp_path, **changes):
    with nn.without_weights():
        ours = small(nn, **changes)
    with torch.random.fork_rng(devices=[]), minicnn.use_backend("numpy"):
        torch.manual_seed(0)
        images = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
        compare(ours, small(torch.nn), tmp_path / "small.pth", images)


def test_equal_networks_pass(tmp_path):
    compare_small(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 1}, "output logits in evaluation differs"),
        ({"eps": 2e-5}, "output logits in evaluation differs"),
        ({"ceil_mode": True}, "output logits in evaluation differs"),
        ({"momentum": 0.2}, r"1\.running_mean in training differs"),
    ],
)
def test_other_networks_do_not(tmp_path, changes, message):
    with pytest.raises(CheckError, match=message):
        compare_small(tmp_path, **changes)


def test_families():
    names = ("resnet18", "wide_resnet50_2", "inception_v3", "vgg11_bn", "squeezenet1_1")
    entries = [type("Entry", (), {"torchvision": name}) for name in names]
    assert [family(entry) for entry in entries] == [
        *("resnet", "wide_resnet", "inception_v", "vgg", "squeezenet")
    ]
