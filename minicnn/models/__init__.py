"""The architectures: one file a paper, the architecture as data, found by name.

>>> from minicnn import models
>>> models.create("notes_cnn").num_parameters()
29034
"""

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
    "Network",
    "NotesCNN",
    "Preset",
    "create",
    "find",
    "names",
    "nearest_preset",
    "register",
]
