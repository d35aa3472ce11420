"""`MiniCNNClassifier`: networks as an estimator of scikit-learn.

It takes what scikit-learn's pipelines pass around, rows of numbers, and makes images of them again:
with ``image_shape=(1, 28, 28)`` a row of 784 features is a picture. Arrays (N, H, W) and
(N, C, H, W) are taken as they are. Rows that are no images get a plain network, "mlp", with one
hidden layer: a convolution asks which features are neighbours, and rows do not say.

What `fit` learns ends with an underscore, as everywhere in scikit-learn: ``network_`` is the
trained `Module`, ``history_`` the record of each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import numpy as np

from minicnn import nn, optim, random
from minicnn.errors import ArgumentError, MissingPackageError
from minicnn.nn import Module
from minicnn.nn._settings import sample_shape
from minicnn.nn.prediction import predict
from minicnn.training.build import create_model
from minicnn.training.callbacks import Callback, EarlyStopping
from minicnn.training.trainer import Trainer
from minicnn_kernels.registry import use_backend

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise MissingPackageError(
        f"MiniCNNClassifier: needs scikit-learn 1.6 or later ({error}); install it with "
        "pip install 'minicnn[sklearn]'."
    ) from error

__all__ = ["MiniCNNClassifier"]

OPTIMIZERS = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD, "rmsprop": optim.RMSprop}


class MiniCNNClassifier(ClassifierMixin, BaseEstimator):
    """A convolutional network with scikit-learn's interface.

    model : "auto", "mlp" for rows that are no images, or a name of `models.names`; "auto" is the
        notes' CNN for images and "mlp" for rows
    image_shape : (C, H, W) or (H, W) of the image that a row holds; None: rows are no images
    preset, model_options : of the architecture; an empty preset is the nearest in size
    hidden : width of the hidden layer of "mlp"
    epochs, batch_size, optimizer, lr, weight_decay : of the training; ``optimizer`` is "adam",
        "adamw", "sgd" (with momentum 0.9) or "rmsprop"
    early_stopping : hold back ``validation_fraction`` of the samples, end when their loss has not
        improved for ``patience`` epochs, and keep the best weights
    random_state : a number repeats the training
    backend : kernel set; None is the one in use, and NumPy for "mlp"

    Inputs are standardised with what `fit` (or the first `partial_fit`) saw: each feature of rows,
    each channel of images. "mlp" computes in float64, images in float32.

    >>> X = np.array([[0.0], [0.1], [0.9], [1.0]] * 8)
    >>> y = np.array(["low", "low", "high", "high"] * 8)
    >>> MiniCNNClassifier(lr=0.01, random_state=0).fit(X, y).predict([[0.2], [0.8]])
    array(['low', 'high'], dtype='<U4')
    """

    def __init__(
        self,
        model: str = "auto",
        *,
        image_shape: tuple[int, ...] | None = None,
        preset: str = "",
        model_options: dict[str, Any] | None = None,
        hidden: int = 100,
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        random_state: Any = None,
        backend: str | None = None,
    ) -> None:
        self.model = model
        self.image_shape = image_shape
        self.preset = preset
        self.model_options = model_options
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.backend = backend

    # -- learning

    def fit(self, X: Any, y: Any) -> Self:
        """Train a new network on samples X and their classes y."""
        X, y = self._checked(X, y)
        self._start(X, np.unique(y), check_random_state(self.random_state).randint(2**31 - 1))
        targets = np.searchsorted(self.classes_, y)
        images, held_out = self._images(X), None
        if self.early_stopping:
            images, images_out, targets, targets_out = train_test_split(
                images,
                targets,
                test_size=self.validation_fraction,
                stratify=targets,
                random_state=self._seed,
            )
            held_out = _Batches(images_out, targets_out, 256)
            self.trainer_.callbacks = [EarlyStopping(self.patience), _Best()]
        self._train(_Batches(images, targets, self.batch_size, self._seed), held_out, self.epochs)
        self.trainer_.callbacks = []
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Pass over the samples once more; the first call names all ``classes``."""
        first = not hasattr(self, "trainer_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        X, y = self._checked(X, y, reset=first)
        if first:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            self._start(X, np.unique(classes), seed)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes are {classes!r}, but were {self.classes_!r} before.")
        if strange := sorted(set(y) - set(self.classes_)):
            raise ValueError(f"y has the class {strange[0]!r}, which is not among the classes.")
        batches = _Batches(
            self._images(X), np.searchsorted(self.classes_, y), self.batch_size, self._seed
        )
        self._train(batches, None, self.trainer_.position.epoch + 1)
        return self

    # -- using what was learnt

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, float64 (N, K), in the order of ``classes_``."""
        check_is_fitted(self)
        images = self._images(validate_data(self, X, reset=False, allow_nd=True))
        with self._kernels():
            found = predict(self.network_, images).astype(np.float64)
        return found / found.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each sample."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    # -- inside

    def _checked(self, X: Any, y: Any, reset: bool = True) -> tuple[np.ndarray, np.ndarray]:
        numbers = (self.epochs, self.batch_size)
        is_whole = all(hasattr(n, "__index__") and n >= 1 for n in numbers)
        if not isinstance(self.optimizer, str) or self.optimizer not in OPTIMIZERS or not is_whole:
            raise ArgumentError(
                f"MiniCNNClassifier: optimizer is {self.optimizer!r}, epochs {self.epochs!r} and "
                f"batch_size {self.batch_size!r}; choose one of {', '.join(OPTIMIZERS)}, and "
                "whole numbers >= 1."
            )
        X, y = validate_data(self, X, y, reset=reset, allow_nd=True)
        check_classification_targets(y)
        return X, column_or_1d(y, warn=True)

    def _start(self, X: np.ndarray, classes: np.ndarray, seed: int) -> None:
        """A new network for samples like X, from a seed."""
        if len(classes) < 2:
            raise ValueError(
                "MiniCNNClassifier: the samples are all of one class; give two classes or more."
            )
        self.classes_, self._seed = classes, seed
        shape = self._shape(X)
        self._is_plain = self.model == "mlp" or (self.model == "auto" and shape[1:] == (1, 1))
        rows = self._rows(X, shape)
        axes = 0 if self._is_plain else (0, 2, 3)
        self.mean_ = rows.mean(axes, keepdims=True, dtype=np.float64)
        deviation = rows.std(axes, keepdims=True, dtype=np.float64)
        self.scale_ = np.where(deviation > 0, deviation, 1.0)
        with _seeded(seed):
            self.network_ = self._network(shape)
        more = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        self.trainer_ = Trainer(
            self.network_,
            OPTIMIZERS[self.optimizer](
                self.network_.parameters(), lr=self.lr, weight_decay=self.weight_decay, **more
            ),
        )
        self.history_ = self.trainer_.history.records

    def _network(self, shape: tuple[int, int, int]) -> Module:
        K = len(self.classes_)
        if self._is_plain:
            features = int(np.prod(shape))
            layers = nn.Linear(features, self.hidden), nn.ReLU(), nn.Linear(self.hidden, K)
            return nn.Sequential(nn.Flatten(), *layers).astype(np.float64)
        name = "notes_cnn" if self.model == "auto" else self.model
        options = (self.model_options or {}).items()
        return create_model(name, range(K), shape, self.preset, options)

    def _train(self, batches: _Batches, held_out: _Batches | None, epochs: int) -> None:
        step = self.trainer_.position.step
        self.trainer_.should_stop = False  # an early stop ends one fit, not those to come
        with self._kernels(), _seeded((self._seed + step) % 2**31):
            self.trainer_.fit(batches, held_out, epochs)  # type: ignore[arg-type]
        self.network_.eval()

    def _kernels(self) -> Any:
        backend = self.backend or ("numpy" if self._is_plain else None)
        return use_backend(backend) if backend else nullcontext()

    def _shape(self, X: np.ndarray) -> tuple[int, int, int]:
        """(C, H, W) of a sample; a row of features is (features, 1, 1)."""
        if self.image_shape is not None:
            sample_shape(self.image_shape, "MiniCNNClassifier", "image_shape")
        given = self.image_shape if X.ndim == 2 and self.image_shape else X.shape[1:]
        shape = tuple(int(n) for n in given)
        if X.ndim == 2 and not self.image_shape:
            if self.model not in ("auto", "mlp"):
                raise ArgumentError(
                    f"MiniCNNClassifier: {self.model} reads images, but X is {X.shape}; give "
                    "image_shape, such as image_shape=(1, 28, 28), or use model='mlp'."
                )
            return shape[0], 1, 1
        if len(shape) == 2:
            shape = (1, *shape)
        if len(shape) != 3 or np.prod(shape) != np.prod(X.shape[1:]):
            raise ArgumentError(
                f"MiniCNNClassifier: X is {X.shape} and image_shape {self.image_shape}; a sample "
                "must have as many numbers as the image (C, H, W) or (H, W)."
            )
        return shape[0], shape[1], shape[2]

    def _rows(self, X: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        return X.reshape(len(X), *shape)

    def _images(self, X: np.ndarray) -> np.ndarray:
        """Standardised images (N, C, H, W)."""
        rows = self._rows(X, self._shape(X))
        dtype = np.float64 if self._is_plain else np.float32
        return ((rows - self.mean_) / self.scale_).astype(dtype)


class _Batches:
    """Batches for the `Trainer`, of any dtype, as equal as can be: none has one sample alone."""

    def __init__(
        self, images: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None = None
    ) -> None:
        self.images, self.targets = images, targets
        self.batch_size = min(batch_size, len(images))
        self.seed = seed

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.iterate(0)

    def iterate(self, epoch: int, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of an epoch, shuffled where there is a seed."""
        order = np.arange(len(self.images))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        for part in np.array_split(order, len(self))[start:]:
            yield self.images[part], self.targets[part]


class _Best(Callback):
    """Keeps the weights of the epoch with the lowest validation loss, and puts them back."""

    def __init__(self) -> None:
        self.loss = np.inf
        self.weights: dict[str, np.ndarray] = {}

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Copy the weights where they are the best so far."""
        if record["val_loss"] < self.loss:
            self.loss, self.weights = record["val_loss"], trainer.model.state_dict()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Put the best weights back."""
        if self.weights:
            trainer.model.load_state_dict(self.weights)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a generator of its own inside ``with``; the process's goes on untouched."""
    state = random.get_state()
    random.seed(seed)
    try:
        yield
    finally:
        random.set_state(state)
