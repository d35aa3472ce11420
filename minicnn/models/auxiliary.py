"""Networks with more than one output: auxiliary classifiers, which only training uses.

A deep network gets its error at its last layer, and the early layers see what is left of it after
all layers between. An auxiliary classifier is a small head on a map in the middle of the network:
its loss, added to the main one with a weight below 1, gives the layers beneath it an error of their
own. In evaluation the heads are not run. (Szegedy et al. later found that they help little early in
training and act as regularisers at its end: "Rethinking the Inception Architecture", section 4.)

The convention, for whoever trains such a network:

- ``auxiliary_weights`` has the weight of the loss of each head, and is empty without heads;
- in training mode, with heads, the output is a tuple: the logits of the network, then those of each
  head, in the order of ``auxiliary_weights``;
- in evaluation mode, or without heads, the output is the logits alone.
"""

from __future__ import annotations

from minicnn.models.network import Network


class AuxiliaryNetwork(Network):
    """A network that may have auxiliary classifiers: in training its output may be a tuple.

    The loss is that of the first output plus, for each of the others, its weight in
    ``auxiliary_weights`` times its loss.
    """

    auxiliary_weights: tuple[float, ...] = ()
