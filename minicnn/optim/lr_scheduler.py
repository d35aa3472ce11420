"""All learning-rate schedules under the name that PyTorch gives their module."""

from minicnn.optim.one_cycle import OneCycleLR
from minicnn.optim.plateau import ReduceLROnPlateau
from minicnn.optim.schedule import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from minicnn.optim.warm_up import WarmUp

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "StepLR",
    "WarmUp",
]
