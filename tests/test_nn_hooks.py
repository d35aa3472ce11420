"""Hooks, captured maps, and the notes that say where an error happened."""

import threading

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.errors import ArgumentError, ShapeError


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def double(x):
    return x * 2


class Double(nn.Module):
    def forward(self, x):
        return double(x)


def test_hooks_see_arguments_and_output():
    seen = []
    layer = Double()
    layer.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
    layer.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    assert layer(3) == 6
    assert seen == [(layer, (3,)), (layer, (3,), 6)]


def test_what_hooks_return_replaces():
    layer = Double()
    first = layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
    second = layer.register_forward_pre_hook(lambda module, args: (args[0] * 10,))
    third = layer.register_forward_hook(lambda module, args, output: (args, output))
    assert layer(1) == ((20,), 40)
    for handle in (first, second, third):
        handle.remove()
        handle.remove()
    assert layer(1) == 2


def test_a_handle_removes_at_the_end_of_the_block():
    layer, seen = Double(), []
    with layer.register_forward_hook(lambda *args: seen.append(1)):
        layer(1)
        layer(1)
    layer(1)
    assert seen == [1, 1]


def test_a_hook_may_remove_itself():
    layer, seen = Double(), []

    def once(module, args, output):
        seen.append(output)
        handle.remove()

    handle = layer.register_forward_hook(once)
    layer(1)
    layer(2)
    assert seen == [2]


# -- captured maps


def test_capture_keeps_the_named_outputs():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Sequential(nn.Flatten()))
    x = minicnn.tensor(rng.normal(size=(2, 1, 4, 4)).astype(np.float32))
    with nn.capture(model, ["0", "2.0", ""]) as maps:
        y = model(x)
    assert list(maps) == ["0", "2.0", ""]
    np.testing.assert_array_equal(maps["0"], model[0](x).array)
    np.testing.assert_array_equal(maps["2.0"], y.array)
    assert isinstance(maps[""], np.ndarray)
    model(x)
    assert not model[0]._forward_hooks


def test_capture_removes_its_hooks_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ShapeError), nn.capture(model, "0") as maps:
        model(minicnn.tensor([[1.0, 2.0, 3.0]]))
    assert maps == {}
    assert not model[0]._forward_hooks


def test_capture_of_unknown_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(ArgumentError, match=r"no part '0.wieght'"), nn.capture(model, ["0.wieght"]):
        pass
    with (
        pytest.raises(ArgumentError, match=r"no part 'features.1'; it has 0, 1\."),
        nn.capture(model, ["0", "features.1"]),
    ):
        pass
    assert not model[0]._forward_hooks


# -- notes


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU())

    def forward(self, x):
        return self.features(x)


def notes_of(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any exception carries the notes
        call()
    return caught.value.__notes__


def test_an_error_says_where_it_happened():
    x = minicnn.tensor(np.zeros((32, 3, 28, 28), np.float32))
    assert notes_of(lambda: LeNet()(x)) == [
        "in features.0 Conv2d(1, 6, kernel_size=5): input (32, 3, 28, 28)",
        "in features Sequential: input (32, 3, 28, 28)",
        "in LeNet: input (32, 3, 28, 28)",
    ]


def test_a_layer_alone_has_no_path():
    x = minicnn.tensor(np.zeros((1, 3), np.float32))
    assert notes_of(lambda: nn.Linear(2, 1)(x)) == ["in Linear(2, 1): input (1, 3)"]


def test_lists_of_modules_are_part_of_the_path():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Identity(), nn.Linear(2, 2)])

        def forward(self, x):
            return self.blocks[1](x)

    assert notes_of(lambda: Net()(minicnn.tensor([[1.0]]))) == [
        "in blocks.1 Linear(2, 2): input (1, 1)",
        "in Net: input (1, 1)",
    ]


def test_a_shared_module_is_named_in_each_of_its_networks():
    layer = nn.Linear(2, 2)
    first, second = nn.Sequential(layer), nn.ModuleDict({"head": layer})
    second.forward = lambda x: second["head"](x)
    x = minicnn.tensor([[1.0]])
    assert notes_of(lambda: first(x))[0] == "in 0 Linear(2, 2): input (1, 1)"
    assert notes_of(lambda: second(x))[0] == "in head Linear(2, 2): input (1, 1)"


def test_a_module_outside_the_parts_is_named_by_its_class():
    class Hiding(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = [nn.Linear(2, 2)]

        def forward(self, x, *, factor=1):
            return self.hidden[0](x)

    assert notes_of(lambda: Hiding()(minicnn.tensor([[1.0]]), factor=2)) == [
        "in Linear Linear(2, 2): input (1, 1)",
        "in Hiding(): input (1, 1)",
    ]


def test_errors_of_hooks_and_without_inputs_have_notes_too():
    layer = nn.Identity()
    layer.register_forward_pre_hook(lambda module, args: 1 / 0)
    assert notes_of(lambda: layer(minicnn.tensor([1.0]))) == ["in Identity(): input (1,)"]
    assert notes_of(lambda: nn.Identity()()) == ["in Identity(): input none"]


def test_the_stack_is_clean_after_an_error():
    model = LeNet()
    bad = minicnn.tensor(np.zeros((1, 3, 8, 8), np.float32))
    expected = notes_of(lambda: model(bad))
    assert notes_of(lambda: model(bad)) == expected
    collected = []
    thread = threading.Thread(target=lambda: collected.extend(notes_of(lambda: model(bad))))
    thread.start()
    thread.join()
    assert collected == expected
