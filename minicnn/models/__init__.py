"""The architectures: one file a paper, the architecture as data, found by name.

>>> from minicnn import models
>>> models.create("notes_cnn").num_parameters()
29034
"""

from minicnn.models.densenet import DenseNet
from minicnn.models.fractalnet import FractalNet
from minicnn.models.googlenet import GoogLeNet, GoogLeNetOutputs
from minicnn.models.inception_v2 import InceptionV2
from minicnn.models.inception_v3 import InceptionOutputs, InceptionV3
from minicnn.models.network import Network
from minicnn.models.notes_cnn import NotesCNN
from minicnn.models.registry import (
    Architecture,
    Preset,
    create,
    find,
    names,
    nearest_preset,
    register,
)

__all__ = [
    "Architecture",
    "DenseNet",
    "FractalNet",
    "GoogLeNet",
    "GoogLeNetOutputs",
    "InceptionOutputs",
    "InceptionV2",
    "InceptionV3",
    "Network",
    "NotesCNN",
    "Preset",
    "create",
    "find",
    "names",
    "nearest_preset",
    "register",
]
