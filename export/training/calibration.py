"""Finishes a fitted network: rounds its weights to float16, calibrates its confidences, measures it.

A confidence of 0.8 should be right in 80 of 100 cases. Temperature scaling (Guo et al. 2017, "On Calibration
of Modern Neural Networks") divides all logits by one T, which minimises the log loss of softmax(logits / T)
on held-out texts. It changes neither classes nor the order of confidences.
"""

from typing import Any

import torch
from torch import Tensor

from export.cnn import SentimentCNN
from export.training.dataset import Data, Examples
from export.training.evidence import calibrate
from export.training.loop import logits_of
from server.evaluate.classification_metrics import ClassificationMetrics, wilson

MIN_CALIBRATED = 100
"""Minimum number of held-out texts for a calibration; with fewer, the temperature stays 1."""


def fit_temperature(logits: Tensor, classes: Tensor) -> float:
    """The temperature for logits float32[rows, classes] and classes int64[rows]."""
    targets = 2 * torch.nn.functional.one_hot(classes, logits.shape[1]).float().numpy() - 1
    return calibrate(logits.double().numpy(), targets, "softmax").temperature


def finish(cnn: SentimentCNN, data: Data) -> tuple[float, dict[str, Any]]:
    """Round the weights to float16, as the bundle stores them, and fit the temperature. Returns (temperature,
    metrics with and without calibration and rounding).
    """
    parts = {"held_out": data.held_out} | ({"test": data.test} if data.test is not None else {})
    exact = {name: logits_of(cnn, examples) for name, examples in parts.items()}
    cnn.load_state_dict({name: value.half().float() for name, value in cnn.state_dict().items()})
    logits = {name: logits_of(cnn, examples) for name, examples in parts.items()}
    temperature = (
        fit_temperature(logits["held_out"], data.held_out.classes)
        if len(data.held_out) >= MIN_CALIBRATED
        else 1.0
    )
    metrics = {}
    for name, examples in parts.items():
        metrics[name] = _metrics(logits[name], examples, temperature)
        metrics[f"{name}_uncalibrated"] = _metrics(logits[name], examples, 1.0)
        metrics[f"{name}_before_float16"] = _metrics(exact[name], examples, temperature)
    return temperature, metrics


def _metrics(logits: Tensor, examples: Examples, temperature: float) -> dict[str, Any]:
    metrics = ClassificationMetrics(logits.shape[1])
    metrics.add(torch.softmax(logits / temperature, dim=1).numpy(), examples.classes.numpy())
    return {
        "texts": metrics.rows,
        "accuracy": metrics.accuracy,
        "interval_95": wilson(metrics.right, metrics.rows),
        "f1": metrics.f1.tolist(),
        "log_loss": metrics.log_loss,
        "calibration_error": metrics.calibration_error,
    }
