"""From the fitted network to what is published: weights rounded to float16, one temperature, and the figures.

One temperature for all logits, so that a confidence of 0.8 means right in 80 of 100 cases.

Guo et al. (2017), "On Calibration of Modern Neural Networks": the T that minimises the log loss of
softmax(logits / T) on texts that were held out. It changes no class and no order of confidences.
"""

import math
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from export.cnn import SentimentCNN
from export.training.dataset import Data, Examples
from export.training.loop import logits_of
from server.evaluate.classification_metrics import ClassificationMetrics, wilson

LIMITS = 0.05, 20.0
"""Where a handful of held-out texts, all of them right, would drive the temperature without bound."""

LEAST_CALIBRATED = 100
"""Held-out texts below which the temperature stays 1: it would be fitted to chance."""


def fit_temperature(logits: Tensor, classes: Tensor) -> float:
    """T from logits float32[rows, classes] and classes int64[rows]; within LIMITS."""

    def loss(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.double() / math.exp(log_t), classes))

    low, high = LIMITS
    return float(math.exp(minimize_scalar(loss, bounds=(math.log(low), math.log(high)), method="bounded").x))


def finish(cnn: SentimentCNN, data: Data) -> tuple[float, dict[str, Any]]:
    """Round the weights to float16, as the bundle stores them, and fit the temperature: (temperature, figures
    before and after).
    """
    parts = {"held_out": data.held_out} | ({"test": data.test} if data.test is not None else {})
    exact = {name: logits_of(cnn, examples) for name, examples in parts.items()}
    cnn.load_state_dict({name: value.half().float() for name, value in cnn.state_dict().items()})
    logits = {name: logits_of(cnn, examples) for name, examples in parts.items()}
    temperature = (
        fit_temperature(logits["held_out"], data.held_out.classes)
        if len(data.held_out) >= LEAST_CALIBRATED
        else 1.0
    )
    figures = {}
    for name, examples in parts.items():
        figures[name] = _figures(logits[name], examples, temperature)
        figures[f"{name}_uncalibrated"] = _figures(logits[name], examples, 1.0)
        figures[f"{name}_before_float16"] = _figures(exact[name], examples, temperature)
    return temperature, figures


def _figures(logits: Tensor, examples: Examples, temperature: float) -> dict[str, Any]:
    figures = ClassificationMetrics(logits.shape[1])
    figures.add(torch.softmax(logits / temperature, dim=1).numpy(), examples.classes.numpy())
    return {
        "texts": figures.rows,
        "accuracy": figures.accuracy,
        "interval_95": wilson(figures.right, figures.rows),
        "f1": figures.f1.tolist(),
        "log_loss": figures.log_loss,
        "calibration_error": figures.calibration_error,
    }
