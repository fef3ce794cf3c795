"""One temperature for all logits, so that a confidence of 0.8 means right in 80 of 100 cases.

Guo et al. (2017), "On Calibration of Modern Neural Networks": the T that minimises the log loss of softmax(logits / T) on
texts that were held out. It changes no class and no order of confidences.
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

LIMITS = 0.05, 20.0
"""Where a handful of held-out texts, all of them right, would drive the temperature without bound."""


def fit_temperature(logits: Tensor, classes: Tensor) -> float:
    """T from logits float32[rows, classes] and classes int64[rows]; within LIMITS."""

    def loss(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.double() / math.exp(log_t), classes))

    low, high = LIMITS
    return float(math.exp(minimize_scalar(loss, bounds=(math.log(low), math.log(high)), method="bounded").x))
