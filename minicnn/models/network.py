"""`Network`: what all architectures are."""

from __future__ import annotations

from typing import Any

from minicnn.errors import ShapeError
from minicnn.nn import Module
from minicnn.nn.calls import running


class Network(Module):
    """A whole architecture, images (N, C, H, W) in and logits (N, num_classes) out.

    ``architecture`` is its name and ``input_shape`` (C, H, W) the shape of the images that it was
    built for, both known where it comes from `models.create`.
    """

    architecture: str = ""
    input_shape: tuple[int, int, int] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network; a `ShapeError` tells which images it takes instead."""
        try:
            return super().__call__(*args, **kwargs)
        except ShapeError as error:
            if not any(isinstance(module, Network) for module in running.stack):
                from minicnn.models.fitting import explain  # it knows the registry

                explain(error, self, args)
            raise
