"""Parity check before publication: every engine must give the probabilities of the definition.

The same texts run through the definition (the eager network, or matrices in float64) one by one, and through
every engine one by one and in batches of mixed length. The report holds the largest |Δp| and the agreement of
classes for each engine.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from rich.table import Table

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.base import Engine, pad
from server.engines.factory import open_engine
from server.errors import PrelabelError
from server.models.windows import Windows

TOLERANCE = 1e-5
"""Largest allowed |Δp| between the definition and an engine."""


class NotProven(PrelabelError):
    """An engine's probabilities differ from the definition's; nothing is published."""


@dataclass(frozen=True)
class Parity:
    """One engine: `max_difference` in probability, `agreement` of classes as a share of the texts. A text
    agrees, too, if its best two labels are no further apart than twice the `tolerance`.
    """

    engine: str
    texts: int
    max_difference: float
    agreement: float
    tolerance: float = TOLERANCE

    @property
    def proven(self) -> bool:
        return self.max_difference <= self.tolerance and self.agreement == 1.0


def prove(bundle: Bundle, rows: Sequence[Ids], expected: Floats, engines: Sequence[str]) -> list[Parity]:
    """One entry for each engine: the `rows` of texts one by one and in batches, against `expected`
    probabilities float32[texts, classes].
    """
    report = []
    windows, head, tolerance = Windows.of(rows, bundle.encoders), bundle.manifest.head, bundle.tolerance
    best = np.sort(expected, axis=1)
    clear = best[:, -1] - best[:, -2] > 2 * tolerance
    for name in engines:
        engine = open_engine(bundle, engine=name, device="cpu")
        one_by_one = np.concatenate([_run(engine, [row]) for row in windows.rows])
        runs = [windows.mean(each, head) for each in (one_by_one, _in_batches(engine, windows.rows))]
        difference = float(np.max([np.abs(run - expected).max() for run in runs]))  # NaN if one is
        same = [run.argmax(axis=1) == expected.argmax(axis=1) for run in runs]
        agreement = min(float((each | ~clear).mean()) for each in same)
        report.append(Parity(name, len(rows), difference, agreement, tolerance))
        engine.close()
    return report


def check(report: Sequence[Parity]) -> None:
    """Raises NotProven with the engine and its figures."""
    for entry in report:
        if not entry.proven:
            raise NotProven(
                f"{entry.engine} differs from the definition by {entry.max_difference:.1e} in probability "
                f"(allowed: {entry.tolerance:g}) and agrees "
                f"on {entry.agreement:.1%} of {entry.texts} texts; nothing was published."
            )


def as_table(report: Sequence[Parity]) -> Table:
    table = Table("engine", "texts", "max |Δp|", "same class", title="Parity with the definition")
    for entry in report:
        table.add_row(entry.engine, str(entry.texts), f"{entry.max_difference:.1e}", f"{entry.agreement:.1%}")
    return table


def as_manifest(report: Sequence[Parity]) -> dict[str, Any]:
    entries = [asdict(entry) for entry in report]
    tolerance = max((entry.pop("tolerance") for entry in entries), default=TOLERANCE)
    return {"tolerance": tolerance, "engines": entries}


def awkward_texts(known: Sequence[str], widest: int = 1, longest: int = 20_000) -> list[str]:
    """Texts that are empty, of unknown words, shorter than the widest filter, exactly as long, and longer
    than one model call (`longest` words), made of `known` words.
    """
    random = np.random.default_rng(0)
    words = [word for word in islice(known, 20_000) if word.isascii() and word.isalnum()] or list(known)

    def text(tokens: int) -> str:
        return " ".join(random.choice(words, tokens))

    lengths = [
        1,
        2,
        max(1, widest - 1),
        widest,
        widest + 1,
        3 * widest,
        longest // 7,
        longest,
        *random.integers(10, longest // 20, 40),
    ]
    return ["", "   ", '"', "\N{CJK UNIFIED IDEOGRAPH-65E5} " * 20, *(text(length) for length in lengths)]


def _in_batches(engine: Engine, rows: Sequence[Ids]) -> Floats:
    """All rows, in batches of eight regardless of their lengths."""
    return np.concatenate([_run(engine, rows[i : i + 8]) for i in range(0, len(rows), 8)])


def _run(engine: Engine, rows: Sequence[Ids]) -> Floats:
    """Raises NotProven, MemoryError."""
    longest = max(map(len, rows))
    try:
        return engine.run(*pad(rows, longest))
    except MemoryError:
        raise
    except Exception as error:  # the engines' libraries raise unrelated types
        raise NotProven(
            f"{engine.name} fails on a text of {longest} tokens ({type(error).__name__}); nothing was "
            "published."
        ) from None
