"""Every architecture against the counts and shapes of its paper; nothing is computed."""

import numpy as np
import pytest
from networks import FACTS, known

from minicnn import models
from minicnn.autograd import Tensor, no_grad
from minicnn.inspect import summary
from minicnn_kernels.registry import use_backend
from minicnn_kernels.shapes import blank

each = pytest.mark.parametrize("entry", known(), ids=lambda entry: entry.fact)


def is_auxiliary(entry, name):
    return name.startswith(entry.auxiliary) if entry.auxiliary else False


@each
def test_parameters_and_running_statistics(entry):
    model = entry.outline()
    sizes = {name: p.size for name, p in model.named_parameters()}
    heads = sum(size for name, size in sizes.items() if is_auxiliary(entry, name))
    assert heads == (entry.facts["params_aux"] if entry.auxiliary else 0)
    assert sum(sizes.values()) - heads == entry.facts["params"]
    statistics = [
        b.size for n, b in model.named_buffers() if n.split(".")[-1].startswith("running")
    ]
    of_heads = [b.size for n, b in model.named_buffers()
                if n.split(".")[-1].startswith("running") and is_auxiliary(entry, n)]  # fmt: skip
    assert sum(statistics) - sum(of_heads) == entry.facts["bn_running_stats"]


@each
def test_multiply_adds_and_layers(entry):
    table = summary(entry.outline(), tuple(entry.facts["input"]))
    convolutions = [row for row in table.layers if row.kind.endswith("Conv2d")]
    linears = [row for row in table.layers if row.kind == "Linear"]
    assert table.multiply_adds == entry.facts["macs"]
    assert sum(row.multiply_adds for row in convolutions) == entry.facts["conv_macs"]
    assert len(convolutions) == entry.facts["conv_layers"]
    assert len(linears) == entry.facts["fc_layers"]


@each
def test_shapes_of_the_stages(entry):
    expected = {stage["stage"]: tuple(stage["out"]) for stage in entry.facts["stages"]}
    assert not entry.stages.keys() - expected.keys()
    model, found = entry.outline().eval(), {}
    for stage, path in entry.stages.items():
        hook = lambda module, args, y, stage=stage: found.update({stage: y.shape[1:]})  # noqa: E731
        model.get_submodule(path).register_forward_hook(hook)
    with no_grad(), use_backend("shapes"):
        y = model(Tensor(blank((1, *entry.facts["input"]), np.float32)))
    assert y.shape[1:] == expected.get("fc", y.shape[1:])[:1]
    for stage, shape in found.items():
        assert shape + (1,) * (3 - len(shape)) == expected[stage], stage
    assert found.keys() == entry.stages.keys()


def test_every_model_of_the_registry_is_known():
    assert {entry.model for entry in known()} == set(models.names())


def test_the_facts_agree_with_themselves():
    for name, facts in FACTS.items():
        assert facts["conv_macs"] + facts["fc_macs"] <= facts["macs"], name
        assert sum(stage["params"] for stage in facts["stages"]) == facts["params"], name
