"""Training and evaluation: the loop, runs in folders, recipes of the papers, ensembles."""

from minicnn.nn.prediction import predict
from minicnn.training.evaluation import (
    evaluate,
    evaluate_probabilities,
    features,
    probabilities,
)

__all__ = ["evaluate", "evaluate_probabilities", "features", "predict", "probabilities"]
