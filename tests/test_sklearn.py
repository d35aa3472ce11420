"""The classifier for scikit-learn: its own checks, and what people do with an estimator."""

import pickle

import numpy as np
import pytest

import minicnn
from minicnn import data, nn
from minicnn.errors import ArgumentError

pytest.importorskip("sklearn", reason='scikit-learn is the extra "sklearn"')

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from minicnn.interop.sklearn import MiniCNNClassifier


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


@pytest.fixture(scope="module")
def clothes():
    """Flattened pictures of the bundled sample, and the names of what is on them."""
    dataset = data.fashion_mnist("train", source="sample")
    chosen = np.flatnonzero(np.isin(dataset.labels, (1, 7, 8)))[:240]  # trousers, sneakers, bags
    images, labels = dataset[chosen]
    return images.reshape(len(images), -1), np.array(dataset.classes)[labels]


def small(**more):
    """The smallest network of the registry, on pictures of 28x28."""
    settings = {"model": "lenet5", "image_shape": (1, 28, 28), "epochs": 2, "random_state": 0}
    return MiniCNNClassifier(**{**settings, **more})


def test_scikit_learns_own_checks():
    """None is expected to fail; those that are skipped need other packages or settings."""
    results = check_estimator(MiniCNNClassifier(), on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert not failed
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input", "check_classifier_data_not_an_array"}
    assert len(results) > 40


def test_in_a_pipeline_and_cross_validated(clothes):
    X, y = clothes
    pipeline = make_pipeline(MinMaxScaler(), small(epochs=4))
    scores = cross_val_score(pipeline, X, y, cv=2)
    assert scores.min() > 0.8


def test_a_grid_of_two_hyperparameters_on_the_sample(clothes):
    X, y = clothes
    grid = {"lr": [1e-5, 3e-3], "batch_size": [16, 60]}
    search = GridSearchCV(small(), grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_params_["lr"] == 3e-3
    assert search.best_score_ > 0.8
    assert search.predict(X[:5]).shape == (5,)


def test_images_of_every_form_are_the_same(clothes):
    X, y = clothes
    flat = small().fit(X, y)
    assert isinstance(flat.network_, nn.Module)
    assert not flat.network_.training
    maps = small(image_shape=None).fit(X.reshape(-1, 28, 28), y)
    channels = small(image_shape=None).fit(X.reshape(-1, 1, 28, 28), y)
    gray = small(image_shape=(28, 28)).fit(X, y)
    expected = flat.predict_proba(X[:20])
    for other, images in (
        (maps, X[:20].reshape(-1, 28, 28)),
        (channels, X[:20].reshape(-1, 1, 28, 28)),
        (gray, X[:20]),
    ):
        assert (other.predict_proba(images) == expected).all()
    assert list(flat.classes_) == sorted(set(y))
    assert [record["epoch"] for record in flat.history_] == [1, 2]


def test_a_seed_repeats_a_training_and_the_process_draws_on_untouched(clothes):
    X, y = clothes
    minicnn.seed(5)
    expected = minicnn.random.next_key()
    minicnn.seed(5)
    one = small(epochs=1).fit(X[:60], y[:60])
    assert minicnn.random.next_key() == expected
    other = clone(one).fit(X[:60], y[:60])
    third = small(epochs=1, random_state=1).fit(X[:60], y[:60])
    assert (one.predict_proba(X) == other.predict_proba(X)).all()
    assert (one.predict_proba(X) != third.predict_proba(X)).any()


def test_pickled_and_trained_on(clothes):
    X, y = clothes
    model = small(epochs=1).fit(X[:80], y[:80])
    copy = pickle.loads(pickle.dumps(model))
    assert (copy.predict_proba(X) == model.predict_proba(X)).all()
    for each in (model, copy):
        each.partial_fit(X[80:160], y[80:160])
    assert (copy.predict_proba(X) == model.predict_proba(X)).all()
    assert copy.trainer_.position.epoch == 2
    assert copy.trainer_.optimizer.param_groups[0]["params"][0] is next(copy.network_.parameters())


def test_partial_fit_learns_batch_by_batch(clothes):
    X, y = clothes
    model = small()
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X[:50], y[:50])
    for _ in range(4):
        for start in range(0, len(X), 80):
            part = slice(start, start + 80)
            model.partial_fit(X[part], y[part], classes=np.unique(y))
    assert model.score(X, y) > 0.9
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X[:1], np.array(["hat"]))
    with pytest.raises(ValueError, match="before"):
        model.partial_fit(X[:1], y[:1], classes=["hat", "coat"])


def test_early_stopping_keeps_the_best_weights(clothes):
    X, y = (part[:120] for part in clothes)
    wild = small(lr=0.1, epochs=20, early_stopping=True, patience=2, validation_fraction=0.25)
    model = wild.fit(X, y)
    losses = [record["val_loss"] for record in model.history_]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 20
    held = small(lr=0.1, epochs=best + 1, early_stopping=True, patience=2, validation_fraction=0.25)
    assert (held.fit(X, y).predict_proba(X) == model.predict_proba(X)).all()
    steps = model.trainer_.position.step
    model.partial_fit(X, y)
    assert model.trainer_.position.step > steps


def test_networks_with_heads_and_options(clothes):
    X, y = clothes
    images = np.repeat(X[:6].reshape(-1, 1, 28, 28), 3, axis=1)
    model = MiniCNNClassifier(
        "googlenet", model_options={"width": 0.25}, epochs=1, batch_size=3, random_state=0
    )
    model.fit(images, y[:6])
    assert model.predict_proba(images).shape == (6, len(set(y[:6])))
    assert model.mean_.shape == (1, 3, 1, 1)


def test_rows_that_are_no_images():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3)) * (1, 1000, 1)
    y = X[:, 1] > 0
    model = MiniCNNClassifier(lr=0.01, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.predict(X[:2]).dtype == bool
    assert (model.predict_proba(X[:1]) == model.predict_proba(X)[:1]).all()


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"model": "resnet20", "image_shape": None}, "give image_shape"),
        ({"image_shape": (1, 27, 28)}, "as many numbers"),
        ({"model": "lenet6"}, "did you mean 'lenet5'"),
        ({"optimizer": "sdg"}, "choose one of adam"),
        ({"epochs": 0}, "whole numbers >= 1"),
        ({"epochs": "3"}, "whole numbers >= 1"),
        ({"batch_size": 2.5}, "whole numbers >= 1"),
        ({"optimizer": ["adam"]}, "choose one of adam"),
        ({"image_shape": 784}, "image_shape is 784; give the shape of one sample"),
        ({"model_options": {"num_classes": 3}}, "which the data decide"),
    ],
)
def test_mistakes(clothes, settings, part):
    X, y = clothes
    with pytest.raises(ValueError, match=part) as caught:
        small(**settings).fit(X[:20], y[:20])
    assert isinstance(caught.value, (ArgumentError, minicnn.errors.ConfigError))


def test_one_class_is_refused(clothes):
    X, _ = clothes
    with pytest.raises(ValueError, match="all of one class"):
        small().fit(X[:5], np.zeros(5))
