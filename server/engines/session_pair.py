"""Two sessions of one network: one for calls at the same time, one that gives a lone call all cores.

Several single-threaded calls at once beat one call on all cores, so a server under load needs the first. The
second answers a text of an idle server sooner.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

import onnxruntime
from onnx import numpy_helper

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.rows import sample_row
from server.engines.base import pad
from server.engines.onnx_file import read_model
from server.engines.onnx_runtime import CPU, DynamicSession, open_session

SHARED_BYTES = 2**20
"""Tensors of fewer bytes are not worth sharing."""

LONG_TOKENS = 1024
"""Texts of more tokens run one at a time, because of `attention_bytes`: with 12 heads, 0.13 GB for this many
tokens and 8 GB for 8,192.
"""

Tensors = Mapping[str, onnxruntime.OrtValue]


class Session(Protocol):
    def run(self, ids: Ids, lengths: Ids, *, keep_memory: bool = True) -> Floats:
        """ids int32[rows, length], lengths int32[rows] → probabilities float32[rows, classes]. Without
        `keep_memory`, the memory of the call is returned to the system. Raises MemoryError.
        """


class SessionPair:
    """Runs on `wide` while one engine call is entered, else on `narrow`; both give the same answer. Safe to
    use from several threads:

        with pair:
            for each group of texts:
                pair.run(ids, lengths)

    A text of more than LONG_TOKENS tokens runs on `wide` in any case, while it holds `one_at_a_time`.
    """

    def __init__(
        self, narrow: Session, wide: Session, one_at_a_time: AbstractContextManager[object] | None = None
    ) -> None:
        self._narrow, self._wide = narrow, wide
        self._one_at_a_time = one_at_a_time or Lock()
        self._lock = Lock()
        self._entered = 0

    def __enter__(self) -> Self:
        with self._lock:
            self._entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._entered -= 1

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        """As `Session.run`. A hung call stays entered: until the engine is rebuilt, all others are narrow."""
        if ids.shape[1] > LONG_TOKENS:
            with self._one_at_a_time:
                return self._wide.run(ids, lengths, keep_memory=False)
        session = self._wide if self._entered == 1 else self._narrow
        return session.run(ids, lengths)


def open_pair(bundle: Bundle, threads: int) -> SessionPair:
    """Sessions of one and of `threads` threads; with one thread they are the same. Raises BadBundle,
    MemoryError.
    """
    if threads == 1:
        session = _open(bundle, 1, {})
        return SessionPair(session, session)
    shared = embeddings(bundle)
    narrow = _open(bundle, 1, shared)
    row = sample_row(bundle.encoders)
    narrow.run(*pad([row], len(row)))  # the calls that warm a model up are lone ones
    return SessionPair(narrow, _open(bundle, threads, shared))


def _open(bundle: Bundle, threads: int, shared: Tensors) -> DynamicSession:
    session = open_session(bundle, (CPU, {}), threads=threads, shared=shared)
    return DynamicSession(session, bundle.encoders, shared)


def embeddings(bundle: Bundle) -> Tensors:
    """The large tensors of model.onnx that the network only looks rows up in. Sessions can share them; those
    of matrix products they cannot, because ONNX Runtime repacks them for itself. Raises BadBundle.
    """
    graph = read_model(bundle).graph
    others = {name for node in graph.node for name in node.input[node.op_type == "Gather" :]}
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"} - others
    return {
        tensor.name: onnxruntime.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.name in looked_up and tensor.ByteSize() >= SHARED_BYTES
    }


def attention_bytes(heads: int, tokens: int) -> int:
    """What a call of one text takes at its peak, apart from the weights: measured with BERT. Two and a half
    matrices of a float32 for each pair of tokens and each head.
    """
    return heads * tokens**2 * 10
