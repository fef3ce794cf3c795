"""Candidates with a newly trained CNN, for many texts: alone, and with n-grams under one head. Needs torch.

A CNN takes minutes, so it is trained once, on nine tenths of the texts. The rest measures all candidates. The
logits of CNN and n-grams are added with the two weights that have the least log loss there.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import minimize

from export.classifier import FittedClassifier
from export.cnn import Network, taps_of
from export.encoders.base import Numbers
from export.encoders.cnn import FittedCnn
from export.folded_cnn import stored
from export.training.candidates import Candidate, Measured
from export.training.dataset import TrainingSource
from export.training.evidence import Calibration, Estimate, Fold, calibrate, figures_of, log_loss
from export.training.options import TrainingOptions
from export.training.pipeline import train_network
from export.training.training_data import TrainingData
from server.offline.labelled import LabelledSource

AS_IT_IS = Calibration(1.0)


def measure_cnn(
    source: LabelledSource,
    data: TrainingData,
    split: Fold,
    ngrams: Candidate,
    options: TrainingOptions,
    console: Console,
) -> list[Measured]:
    """A CNN trained on one side of `split` and measured on the other, alone and with `ngrams`. The other side
    has also chosen its epoch, its temperature and the two weights, which flatters it a little. Raises
    BadInput, and KeyboardInterrupt after Ctrl-C.
    """
    started = time.monotonic()
    network, done = train_network(TrainingSource.of(source, None), options, console, split=split)
    if not done:
        raise KeyboardInterrupt
    fitted, held_out = split
    labelled, targets = data.labelled, data.labelled.targets[held_out]
    cnn, bias = fitted_cnn(network)
    cnn_logits = cnn.quick_logits([data.texts[row] for row in held_out], len(data.labels)) + bias
    ngram_logits = ngrams.fit(labelled.targets, fitted)(held_out)

    def loss(weights: npt.NDArray[np.float64]) -> float:
        logits = weights[0] * cnn_logits + weights[1] * ngram_logits
        return log_loss(AS_IT_IS.apply(logits, labelled.head), targets, labelled.head)

    weights = minimize(loss, [0.5, 2.5], bounds=[(0.0, 20.0), (0.0, 20.0)], method="Powell").x
    seconds = time.monotonic() - started

    def measured(name: str, logits: Numbers, fit_on_all: Callable[[], FittedClassifier]) -> Measured:
        balance = labelled.balance
        calibration = calibrate(logits, targets, labelled.head, balance=balance) if balance else AS_IT_IS
        probabilities = calibration.apply(logits, labelled.head)
        figures = figures_of(probabilities, targets, labelled.head)
        estimate = Estimate(name, figures, calibration, seconds, probabilities)
        return Measured(estimate, lambda: calibration.of(fit_on_all()))

    metrics = {"tokenizer": network.metrics["tokenizer"]}

    def alone() -> FittedClassifier:
        head_bias = bias.astype(np.float32)
        return FittedClassifier(
            data.labels, [cnn], head_bias, temperature=network.temperature, metrics=metrics
        )

    def together() -> FittedClassifier:
        linear = ngrams.fit_on_all(data)
        encoders = [
            cnn.scaled(float(weights[0])),
            *(each.scaled(float(weights[1])) for each in linear.encoders),
        ]
        head_bias = (weights[0] * bias + weights[1] * linear.head_bias).astype(np.float32)
        return replace(linear, encoders=encoders, head_bias=head_bias, metrics=metrics)

    return [
        measured("CNN", cnn_logits, alone),
        measured("CNN + n-grams", weights[0] * cnn_logits + weights[1] * ngram_logits, together),
    ]


def fitted_cnn(network: Network) -> tuple[FittedCnn, Numbers]:
    """The CNN of a trained network, and its head's bias float64[classes]; the temperature is divided out of
    both.
    """
    banks = list(network.cnn.banks())
    head = (network.cnn.fc.weight.detach() / network.temperature).T.contiguous().numpy()
    cnn = FittedCnn(
        network.spec,
        network.tokens,
        stored(network.cnn.embedding.weight).numpy(),
        [stored(taps_of(conv)).numpy() for conv, _ in banks],
        [bias.detach().numpy() for _, bias in banks],
        head,
        network.learned,
    )
    bias: Numbers = (network.cnn.fc.bias.detach() / network.temperature).double().numpy()
    return cnn, bias
