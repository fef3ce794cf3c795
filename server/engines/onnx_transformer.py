"""ONNX Runtime on the CPU for networks with a transformer: small calls of texts of similar length.

A call of about GROUP_TOKENS tokens is the fastest: its activations stay in the cache, and shorter ones leave
the matrix products too few rows. So a batch is run in groups, and there is next to no padding.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.rows import bounds
from server.encoders.transformer.encoder import Precision, TransformerSpec
from server.engines.session_pair import open_pair

GROUP_TOKENS = 256
"""Tokens of a call, if its texts are shorter (docs/transformers.md)."""

SHORTEST = 0.9
"""Length of the shortest text in a group, as a share of the longest: padding takes at most a tenth."""


class OnnxTransformerEngine:
    """Safe to call from several threads. A call computes in its caller's thread; while it is the only one,
    on all `threads` cores.
    """

    name = "onnx"
    device = "cpu"
    degraded: str | None = None

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Raises BadBundle, MemoryError."""
        specs = bundle.manifest.encoders
        self._encoders = len(specs)
        self._position, spec = next(
            (i, spec) for i, spec in enumerate(specs) if isinstance(spec, TransformerSpec)
        )
        self._group_tokens = group_tokens(spec.precision)
        self._sessions = open_pair(bundle, threads)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        begins, ends = bounds(ids, lengths, self._encoders)[self._position]
        calls = list(groups(ends - begins, self._group_tokens))
        with self._sessions:
            outputs = np.concatenate([self._call(ids[group], lengths[group]) for group in calls])
        probabilities = np.empty_like(outputs)
        probabilities[np.concatenate(calls)] = outputs
        return probabilities

    def _call(self, ids: Ids, lengths: Ids) -> Floats:
        return self._sessions.run(np.ascontiguousarray(ids[:, : lengths.max()]), lengths)

    def close(self) -> None:
        """Nothing to do: ONNX Runtime frees sessions with their last reference."""


def group_tokens(precision: Precision) -> int:
    """Tokens of a call. int8 activations have one scale for a whole call: a text must not share it."""
    return 0 if precision == "int8" else GROUP_TOKENS


def groups(lengths: Ids, tokens: int) -> Iterator[npt.NDArray[np.intp]]:
    """Indices of texts with these lengths int32[texts], in groups of at most `tokens` padded tokens, or of
    one text.
    """
    group: list[int] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        longest = int(lengths[index])
        if group and ((len(group) + 1) * longest > tokens or lengths[group[0]] < SHORTEST * longest):
            yield np.array(group)
            group = []
        group.append(index)
    if group:
        yield np.array(group)
