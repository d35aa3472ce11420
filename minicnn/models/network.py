"""`Network`: what all architectures are."""

from __future__ import annotations

from minicnn.nn import Module


class Network(Module):
    """A whole architecture, images (N, C, H, W) in and logits (N, num_classes) out.

    ``architecture`` is its name and ``input_shape`` (C, H, W) the shape of the images that it was
    built for, both known where it comes from `models.create`.
    """

    architecture: str = ""
    input_shape: tuple[int, int, int] | None = None
