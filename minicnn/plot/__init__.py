"""Pictures: each function returns a figure of matplotlib, which the extra "plot" installs.

Nothing is shown or kept: a figure is saved with ``.save("name.svg")`` (or .png, .pdf), shown by a
notebook where it is the last thing of a cell, and described in words by its ``.alt``. Every
function takes ``dark=True`` for dark pages.
"""

from minicnn.plot.architecture import architecture
from minicnn.plot.attention import class_activation, receptive_field
from minicnn.plot.classes import confusion_matrix, mistakes, samples
from minicnn.plot.curves import learning_curves
from minicnn.plot.graph import graph
from minicnn.plot.inside import feature_maps, filters, histograms
from minicnn.plot.lines import lines
from minicnn.plot.maps import maps
from minicnn.plot.overview import error_timeline, zoo_scatter
from minicnn.plot.sliding import window
from minicnn.plot.style import MissingExtraError, style

__all__ = [
    "MissingExtraError",
    "architecture",
    "class_activation",
    "confusion_matrix",
    "error_timeline",
    "feature_maps",
    "filters",
    "graph",
    "histograms",
    "learning_curves",
    "lines",
    "maps",
    "mistakes",
    "receptive_field",
    "samples",
    "style",
    "window",
    "zoo_scatter",
]
