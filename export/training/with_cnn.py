"""Candidates with a newly trained CNN, for many texts: alone, and with n-grams under one head. Needs torch.

A CNN takes minutes, so it is trained once, on nine tenths of the texts. The rest measures all candidates. The
logits of CNN and n-grams are added with the two weights that have the least log loss there.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import minimize

from export.classifier import FittedClassifier
from export.cnn import Network, taps_of
from export.encoders.base import Numbers
from export.encoders.cnn import FittedCnn
from export.folded_cnn import stored
from export.training.blocks import Rows
from export.training.dataset import HELD_OUT, TrainingSource, hold_out, read_texts
from export.training.evidence import Calibration, Estimate, Labelled, calibrate, figures_of, log_loss
from export.training.options import TrainingOptions
from export.training.pipeline import train_network
from server.encoders.cnn.tables import read_int16_tables
from server.offline.labelled import LabelledSource

AS_IT_IS = Calibration(1.0)


def held_out_rows(source: LabelledSource, seed: int) -> tuple[Rows, Rows]:
    """(rows to fit on, rows to measure): the same split as in the training of the CNN. Raises BadInput."""
    texts = read_texts(source)
    fitted, held_out = hold_out(texts, HELD_OUT, np.random.default_rng(seed), source.path)
    return np.array(fitted, dtype=np.intp), np.array(held_out, dtype=np.intp)


def train_cnn_candidates(
    source: LabelledSource,
    texts: list[str],
    labels: tuple[str, ...],
    labelled: Labelled,
    held_out: Rows,
    ngram_logits: Numbers,
    ngrams: Callable[[], FittedClassifier],
    options: TrainingOptions,
    console: Console,
    state: Path,
) -> list[tuple[Estimate, Callable[[], FittedClassifier]]]:
    """The estimates on `held_out`, each with a function that makes the classifier. `ngram_logits` float64
    [held out, classes] are those of n-grams fitted on the other rows; `ngrams` fits them on all.
    """
    started = time.monotonic()
    network, done = train_network(TrainingSource.of(source, None), options, console, state=state)
    state.unlink(missing_ok=True)
    if not done:
        raise KeyboardInterrupt
    cnn, bias = fitted_cnn(network)
    targets = labelled.targets[held_out]
    cnn_logits = logits_of(cnn, [texts[row] for row in held_out]) + bias

    def loss(shares: npt.NDArray[np.float64]) -> float:
        logits = shares[0] * cnn_logits + shares[1] * ngram_logits
        return log_loss(AS_IT_IS.apply(logits, labelled.head), targets, labelled.head)

    shares = minimize(loss, [0.5, 2.5], bounds=[(0.0, 20.0), (0.0, 20.0)], method="Powell").x
    both = shares[0] * cnn_logits + shares[1] * ngram_logits
    seconds = time.monotonic() - started

    def estimate(name: str, logits: Numbers) -> Estimate:
        balance = labelled.balance
        calibration = calibrate(logits, targets, labelled.head, balance=balance) if balance else AS_IT_IS
        figures = figures_of(calibration.apply(logits, labelled.head), targets, labelled.head)
        return Estimate(name, figures, calibration, seconds)

    why = {"tokenizer": network.metrics["tokenizer"]}
    alone = FittedClassifier(
        labels, [cnn], bias.astype(np.float32), temperature=network.temperature, metrics=why
    )

    def together() -> FittedClassifier:
        fitted = ngrams()
        return replace(
            fitted,
            encoders=[
                cnn.scaled(float(shares[0])),
                *(each.scaled(float(shares[1])) for each in fitted.encoders),
            ],
            head_bias=(shares[0] * bias + shares[1] * fitted.head_bias).astype(np.float32),
            metrics=why,
        )

    first, second = estimate("CNN", cnn_logits), estimate("CNN + n-grams", both)
    return [
        (first, lambda: alone.calibrated(first.calibration.temperature, first.calibration.shift)),
        (second, lambda: together().calibrated(second.calibration.temperature, second.calibration.shift)),
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


def logits_of(cnn: FittedCnn, texts: list[str]) -> Numbers:
    """float64[texts, classes], without the bias, by the server's tables."""
    tables = read_int16_tables(cnn.tensors(0), cnn.spec.widths, len(cnn.tokens))
    logits = np.zeros((len(texts), cnn.head.shape[1]), dtype=np.float32)
    tokenizer = cnn.tokenizer()
    for row, ids in enumerate(tokenizer.encode_all(texts)):
        length = np.array([len(ids)], dtype=np.int32)
        tables.add_logits(ids[None], np.zeros_like(length), length, logits[row : row + 1])
    return logits.astype(np.float64)
