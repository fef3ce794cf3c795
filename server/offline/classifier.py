"""Many texts through one engine, in this process: tokens, batches of like length, probabilities in order.

What the bulk commands share. Batches are cut by length alone, so the same texts make the same model calls.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from server.arrays import Floats, Ids
from server.bundle import Bundle, read_bundle
from server.engines.base import Engine, pad
from server.engines.devices import CPU_BATCH_TOKENS
from server.engines.factory import open_engine
from server.models.tokenizer import Tokenizer
from server.settings import Settings

CHUNK = 2048
"""Rows that a bulk command holds at a time."""

TEXTS = 128
"""Texts that one thread tokenizes at a time."""


@dataclass
class Classifier:
    """Use it in a `with` block: it has `threads` threads of its own, a model call each at a time, of at most
    `batch_tokens` padded tokens.
    """

    bundle: Bundle
    engine: Engine
    threads: int
    batch_tokens: int = CPU_BATCH_TOKENS
    tokenizer: Tokenizer = field(init=False)
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer.of(self.bundle)

    def __enter__(self) -> "Classifier":
        self._pool = ThreadPoolExecutor(self.threads)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, in order."""
        parts = [texts[begin : begin + TEXTS] for begin in range(0, len(texts), TEXTS)]
        return [row for rows in self._pool.map(self.tokenizer.encode_all, parts) for row in rows]

    def probabilities(self, rows: Sequence[Ids]) -> Floats:
        """float32[rows, classes] in the order of `rows`, as `encode` made them."""
        answers = np.zeros((len(rows), len(self.bundle.labels)), dtype=np.float32)
        batches = list(batches_of(rows, self.batch_tokens))
        for places, probabilities in zip(
            batches, self._pool.map(lambda batch: self._run([rows[i] for i in batch]), batches), strict=True
        ):
            answers[places] = probabilities
        return answers

    def _run(self, batch: list[Ids]) -> Floats:
        return self.engine.run(*pad(batch, len(batch[-1])))


def open_classifier(settings: Settings) -> Classifier:
    """The settings' bundle (the first of several) in their engine. Raises BadBundle, BadSetting."""
    bundle = read_bundle(settings.bundle[0])
    engine = open_engine(bundle, engine=settings.engine, device=settings.device, cuda=settings.cuda)
    return Classifier(bundle, engine, settings.threads(engine.device), settings.budget(engine.device))


def batches_of(rows: Sequence[Ids], batch_tokens: int) -> Iterator[list[int]]:
    """Places of rows by rising length, as many to a batch as the budget of padded tokens holds; at least one."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place])):
        if batch and (len(batch) + 1) * len(rows[place]) > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
