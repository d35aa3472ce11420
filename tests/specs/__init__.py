"""The table of specs: what every public function must compute, and the faults planted into it."""

from specs import (
    activation,
    adaptive_pooling,
    arithmetic,
    convolution,
    fused_normalization,
    linear,
    loss,
    normalization,
    pooling,
    reduction,
    shape,
    stochastic,
)

FAMILIES = (
    activation,
    adaptive_pooling,
    arithmetic,
    convolution,
    fused_normalization,
    linear,
    loss,
    normalization,
    pooling,
    reduction,
    shape,
    stochastic,
)
SPECS = [spec for family in FAMILIES for spec in family.SPECS]
