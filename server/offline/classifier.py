"""Bulk classification in this process: tokenizes texts, batches them by length, and runs the model on all
cores.

Batches depend on the lengths alone, so the same texts always make the same model calls.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from server.arrays import Floats, Ids
from server.bundle import Bundle, read_bundle
from server.engines.base import Engine, pad, token_cost
from server.engines.devices import CPU_BATCH_TOKENS
from server.engines.factory import open_engine
from server.models.tokenizer import Tokenizer
from server.models.windows import Windows
from server.settings import Settings, unknown_labels

log = logging.getLogger(__name__)

CHUNK = 2048
"""Rows that a bulk command holds in memory at a time."""

TEXTS = 128
"""Texts that a thread tokenizes at a time."""


@dataclass
class Classifier:
    """A model with its own threads; use it in a `with` block.

    `threads` is the number of concurrent model calls, `batch_tokens` the maximum of padded tokens in each.
    `truncated` counts the texts that were longer than the network reads.
    """

    bundle: Bundle
    engine: Engine
    threads: int
    batch_tokens: int = CPU_BATCH_TOKENS
    tokenizer: Tokenizer = field(init=False)
    truncated: int = field(init=False, default=0)
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer.of(self.bundle)

    def __enter__(self) -> "Classifier":
        self._pool = ThreadPoolExecutor(self.threads)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of each text, int32[tokens], in order."""
        parts = [texts[begin : begin + TEXTS] for begin in range(0, len(texts), TEXTS)]
        return [row for rows in self._pool.map(self.tokenizer.encode_all, parts) for row in rows]

    def probabilities(self, rows: Sequence[Ids]) -> Floats:
        """float32[texts, classes], in the order of `rows`, which `encode` returned for the texts."""
        windows = Windows.of(rows, self.bundle.encoders)
        probabilities = np.zeros((len(windows.rows), len(self.bundle.labels)), dtype=np.float32)
        batches = list(batches_of(windows.rows, self.batch_tokens // token_cost(self.bundle, self.engine)))
        results = self._pool.map(lambda batch: self._run([windows.rows[index] for index in batch]), batches)
        for indices, batch_probabilities in zip(batches, results, strict=True):
            probabilities[indices] = batch_probabilities
        self.truncated += windows.truncated  # not of a call that failed, because it may be repeated
        return windows.mean(probabilities, self.bundle.manifest.head)

    def _run(self, batch: list[Ids]) -> Floats:
        return self.engine.run(*pad(batch, len(batch[-1])))


def open_classifier(settings: Settings) -> Classifier:
    """The first bundle of the settings, in their engine. Warns of a label map for other labels. Raises
    BadBundle, BadSetting.
    """
    bundle = read_bundle(settings.bundle[0])
    if unknown := unknown_labels(settings, bundle.labels):
        log.warning("%s", unknown)
    engine = open_engine(bundle, engine=settings.engine, device=settings.device, cuda=settings.cuda)
    return Classifier(bundle, engine, settings.threads(engine.device), settings.budget(engine.device))


def batches_of(rows: Sequence[Ids], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of rows by ascending length, in batches of at most `batch_tokens` padded tokens, or of one
    row.
    """
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if batch and (len(batch) + 1) * len(rows[index]) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
