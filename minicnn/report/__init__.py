"""A run on one page: `write` makes report.html in a run's folder, `compare` a page of several runs.

A page is one file that needs no network and runs no script: learning curves, scores by class, the
confusion matrix, the most certain mistakes, the network's layers and its block diagram, settings,
machine, versions and times. `minicnn train` writes it whichever way the training ends, and
``minicnn report`` again at any time, also of a run that is going on or was killed: it is made from
what the run folder holds. Nothing is written after each epoch, since nobody may look.

The curves are drawn by the page itself. The block diagram needs matplotlib (extra "plot"); where
that is missing the page says so.
"""

from minicnn.report.writing import compare, fit, write

__all__ = ["compare", "fit", "write"]
