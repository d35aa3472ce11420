"""Means over networks and crops, what they refuse, and features of any layer."""

import dataclasses

import numpy as np
import pytest

import minicnn
from minicnn import data, nn, training
from minicnn import functional as F
from minicnn.cli import main
from minicnn.data import ArrayDataset, Loader
from minicnn.errors import ArgumentError, ConfigError, DataError, ShapeError
from minicnn.training import build
from minicnn.training.config import TrainConfig
from minicnn.training.ensemble import evaluate_ensemble, evaluate_runs
from minicnn.training.run import load_model, new_run, prepared_images


@pytest.fixture(autouse=True)
def _numpy_kernels(monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with minicnn.use_backend("numpy"):
        yield


def small_set(classes=3, size=6, count=20):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, 1, size, size)).astype(np.float32)
    return ArrayDataset(images, np.arange(count) % classes)


def small_model(classes=3, side=6, seed=0):
    minicnn.seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(side**2, classes), nn.Dropout(0.5))


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def scores_of(model, images):
    weight, bias = (p.numpy().astype(np.float64) for p in model.parameters())
    return images.reshape(len(images), -1) @ weight.T + bias


# Crops -------------------------------------------------------------------------------------------


def test_ten_crops_are_where_they_should_be():
    images = np.arange(2 * 1 * 5 * 6).reshape(2, 1, 5, 6)
    crops = data.ten_crop(images, (3, 4))
    assert crops.shape == (10, 2, 1, 3, 4)
    tops_and_lefts = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    for crop, mirrored, (top, left) in zip(crops[:5], crops[5:], tops_and_lefts, strict=True):
        expected = images[:, :, top : top + 3, left : left + 4]
        np.testing.assert_array_equal(crop, expected)
        np.testing.assert_array_equal(mirrored, np.flip(expected, axis=3))
    whole = data.ten_crop(images, (5, 6))
    assert all(np.array_equal(crop, images) for crop in whole[:5])


def test_crops_larger_than_the_picture_are_refused():
    with pytest.raises(ShapeError, match=r"ten_crop: size=7 is larger than the 6x6"):
        data.ten_crop(np.zeros((1, 1, 6, 6)), 7)


def test_padding_is_that_of_random_crops():
    images = np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(data.Pad(1)(images)[0, 0, 1:4, 1:4], images[0, 0])
    assert data.Pad(1)(images)[0, 0, 0].tolist() == [0] * 5
    assert data.Pad(1, "reflect")(images)[0, 0, 0].tolist() == [4, 3, 4, 5, 4]
    with pytest.raises(ArgumentError, match="Pad: padding_mode='reflct' is unknown; did you mean"):
        data.Pad(1, "reflct")
    with pytest.raises(ShapeError, match="Pad: padding=3 reflects more than"):
        data.Pad(3, "reflect")(images)


# Probabilities -----------------------------------------------------------------------------------


def test_probabilities_are_softmax_outputs_in_eval_mode():
    model, dataset = small_model(), small_set()
    model.train()
    found, labels = training.probabilities(model, Loader(dataset, 7))
    np.testing.assert_allclose(found, softmax(scores_of(model, dataset.images)), rtol=1e-5)
    np.testing.assert_array_equal(labels, dataset.labels)
    assert model[2].training


def test_evaluating_probabilities_is_evaluating_the_model():
    model, dataset = small_model(7), small_set(7)
    loader = Loader(dataset, 6)
    a = training.evaluate(model, loader)
    b = training.evaluate_probabilities(*training.probabilities(model, loader))
    assert (a.accuracy, a.top5_error) == (b.accuracy, pytest.approx(b.top5_error))
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    np.testing.assert_array_equal(a.confusion.matrix, b.confusion.matrix)
    certain = training.evaluate_probabilities(np.array([[1.0, 0.0]]), np.array([1]))
    assert certain.loss == pytest.approx(300 * np.log(10))


def test_ten_crops_are_averaged_as_probabilities():
    model, dataset = small_model(side=4), small_set()
    found, _ = training.probabilities(model, Loader(dataset, 7), crop_size=4)
    crops = data.ten_crop(dataset.images, 4)
    expected = np.mean([softmax(scores_of(model, crop)) for crop in crops], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_ensemble_is_the_mean_of_probabilities_not_of_logits():
    models, dataset = [small_model(seed=s) for s in range(3)], small_set()
    models[0][1].weight.array *= 20  # a network that is sure of itself
    result = evaluate_ensemble(models, Loader(dataset, 7))
    parts = [softmax(scores_of(model, dataset.images)) for model in models]
    mean = np.mean(parts, axis=0)
    right = mean[np.arange(20), dataset.labels]
    assert result.loss == pytest.approx(-np.log(right).mean(), rel=1e-5)
    of_logits = F.softmax(minicnn.Tensor(np.mean(np.log(parts), axis=0)), 1).numpy()
    assert np.abs(mean - of_logits).max() > 0.05


def test_ensembles_that_do_not_fit():
    with pytest.raises(ArgumentError, match="there are no models"):
        evaluate_ensemble([], Loader(small_set(), 5))
    with pytest.raises(ArgumentError, match="the models have 3 and 4 classes"):
        evaluate_ensemble([small_model(3), small_model(4)], Loader(small_set(), 5))
    with pytest.raises(DataError, match="no batches"):
        training.probabilities(small_model(), [])


# Features ----------------------------------------------------------------------------------------


def test_features_are_the_outputs_of_the_layer_for_each_image():
    minicnn.seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    dataset = small_set()
    found = training.features(model, Loader(dataset, 7), "1")
    with minicnn.no_grad():
        maps = F.relu(model[0](minicnn.Tensor(dataset.images))).numpy()
    np.testing.assert_allclose(found, maps.reshape(20, -1), rtol=1e-5, atol=1e-6)
    assert training.features(model, dataset, "3").shape == (20, 3)


def test_features_that_are_not_there():
    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.head = nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x):
            return (self.fc(x), self.head(x)) if self.training else self.fc(x)

    model = Headed()
    with pytest.raises(ArgumentError, match="has no part 'fcc'; did you mean 'fc'"):
        training.features(model, small_set(), "fcc")
    with pytest.raises(ArgumentError, match="'head' of Headed does not run in eval mode"):
        training.features(model, small_set(), "head")
    with pytest.raises(DataError, match="no batches"):
        training.features(model, [], "fc")


# Runs --------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_sample(monkeypatch):
    source = build.DATA_SOURCES["fashion_mnist"]

    def load(split, source):
        whole = data.fashion_mnist(split, source="sample")
        return whole.subset(range(300 if split == "train" else 100))

    for name in ("fashion_mnist", "mnist"):
        tiny = dataclasses.replace(source, load=load)
        monkeypatch.setitem(build.DATA_SOURCES, name, tiny)


def trained(name, **settings):
    common = {"epochs": 1, "batch_size": 50, "lr": 0.02, "backend": "numpy", "name": name}
    run = new_run(TrainConfig(**{**common, **settings}).validate())
    run.fit()
    return run


def test_runs_are_measured_alone_and_together(capsys, tiny_sample):
    a = trained("a")
    b = trained("b", seed=1, crop_size=24, augment="flip-crop")
    alone, _ = a.test()
    measured = evaluate_runs([a.folder, b.folder])
    assert measured.each[0].accuracy == alone.accuracy
    assert measured.each[0].loss == pytest.approx(alone.loss, rel=1e-5)
    assert measured.each[1].accuracy == b.test()[0].accuracy
    assert measured.together.loss not in (measured.each[0].loss, measured.each[1].loss)
    assert measured.together.loss <= max(one.loss for one in measured.each)
    assert main(["evaluate", "runs/a", "runs/b"]) == 0
    out = capsys.readouterr().out
    for one in (*measured.each, measured.together):
        assert f"accuracy {one.accuracy:.4f}, loss {one.loss:.4f}" in out
    assert "mean of 2 networks: accuracy" in out

    assert main(["evaluate", "runs/b", "--crops", "10"]) == 0
    ten = evaluate_runs([b.folder], crops=10)
    assert f"loss {ten.together.loss:.4f}" in capsys.readouterr().out
    views = data.ten_crop(b.source.load("test", "sample").images, 24)
    normal = data.Compose([data.ToFloat(), data.Normalize(b.source.mean, b.source.std)])
    expected = np.mean([training.predict(b.model, normal(view)) for view in views], axis=0)
    labels = b.source.load("test", "sample").labels
    assert ten.together.loss == pytest.approx(
        training.evaluate_probabilities(expected, labels).loss, rel=1e-4
    )
    padded = evaluate_runs([a.folder], crops=10)  # 28x28 of 32x32
    assert padded.together.loss != pytest.approx(alone.loss, rel=1e-5)


def test_pictures_are_cut_as_the_training_images_were(tiny_sample, tmp_path):
    from PIL import Image

    run = trained("b", crop_size=24)
    image = run.source.load("test", "sample")[0][0]
    Image.fromarray(image[0]).save(tmp_path / "picture.png")
    _, checkpoint = load_model(run.folder)
    (prepared,) = prepared_images([tmp_path / "picture.png"], checkpoint.meta, invert=False)
    pixels = (image[:, 2:26, 2:26] / 255 - run.source.mean) / run.source.std
    np.testing.assert_allclose(prepared, pixels, rtol=1e-4, atol=1e-5)


def test_runs_that_do_not_fit_together(capsys, tiny_sample):
    for name, settings in {"a": {}, "b": {"data": "mnist"}, "c": {"source": "sample"}}.items():
        trained(name, **settings)
    for arguments, part in [
        (["runs/a", "runs/b"], "runs/a and runs/b do not fit together: fashion_mnist with 10"),
        (["runs/a", "runs/c"], "runs/a was trained on source 'auto' and runs/c on 'sample'"),
        (["runs/a", "runs/none"], "runs/none is not a run folder"),
        (["runs/a", "--crop-size", "24"], "set crops = 10"),
        (["runs/a", "--crops", "10", "--crop-padding", "0"], "ten crops of side 28 of 28x28"),
    ]:
        assert main(["evaluate", *arguments]) == 2
        assert part in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "runs/a", "--crops", "5"])
    assert "choose one of 1, 10" in capsys.readouterr().err
    assert main(["evaluate", "runs/a", "runs/c", "--source", "sample"]) == 0
    with pytest.raises(ConfigError, match="crops = 4 must be 1 or 10"):
        evaluate_runs(["runs/a"], crops=4)
    with pytest.raises(ConfigError, match="no runs"):
        evaluate_runs([])
