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
from server.encoders.transformer.encoder import TransformerSpec
from server.engines.onnx_runtime import CPU, DynamicSession, open_session

GROUP_TOKENS = 256
"""Tokens of a call, if its texts are shorter (docs/performance.md)."""

SHORTEST = 0.9
"""Length of the shortest text in a group, as a share of the longest: padding takes at most a tenth."""


class OnnxTransformerEngine:
    """One session, safe to call from several threads; each call computes in its caller's thread."""

    name = "onnx"
    device = "cpu"
    degraded: str | None = None

    def __init__(self, bundle: Bundle) -> None:
        """Raises BadBundle, MemoryError."""
        specs = bundle.manifest.encoders
        self._encoders = len(specs)
        self._position = next(i for i, spec in enumerate(specs) if isinstance(spec, TransformerSpec))
        spec = specs[self._position]
        # int8 activations have one scale for a whole call: a text must not share it with others
        alone = isinstance(spec, TransformerSpec) and spec.precision == "int8"
        self._group_tokens = 0 if alone else GROUP_TOKENS
        self._session = DynamicSession(open_session(bundle, (CPU, {})), bundle.encoders)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        begins, ends = bounds(ids, lengths, self._encoders)[self._position]
        found: dict[int, Floats] = {}
        for group in groups(ends - begins, self._group_tokens):
            longest = int(lengths[group].max())
            probabilities = self._session.run(np.ascontiguousarray(ids[group, :longest]), lengths[group])
            found |= dict(zip(group.tolist(), probabilities, strict=True))
        return np.stack([found[row] for row in range(len(lengths))])

    def close(self) -> None:
        """Nothing to do: ONNX Runtime frees a session with its last reference."""


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
