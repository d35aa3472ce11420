"""The architectures: one file a paper, the architecture as data, found by name.

>>> from minicnn import models
>>> models.create("notes_cnn").num_parameters()
29034
"""

from minicnn.models.notes_cnn import NotesCNN
from minicnn.models.registry import create, names, register

__all__ = ["NotesCNN", "create", "names", "register"]
