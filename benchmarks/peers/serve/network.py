"""Texts → probabilities with ONNX Runtime; all peers use it except the tutorial's class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.peers.serve.vocabulary import Vocabulary, model_folder, read_facts, tokens_of


class Network:
    """One session for all calling threads.

    Every text runs at its own length: padding would change the results of `conv`, and on a CPU neither model
    gains from batches. The texts of one call are distributed over `at_once` threads, so that a large request
    uses more than one core; each run has `threads` threads of ONNX Runtime.
    """

    def __init__(self, *, at_once: int = 1, threads: int = 1) -> None:
        self.facts = read_facts()
        self._vocabulary = Vocabulary(self.facts)
        self._pool = ThreadPoolExecutor(at_once) if at_once > 1 else None
        self._start = np.zeros((1, self.facts["features"]), dtype=np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model_folder() / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def probabilities(self, texts: Sequence[str]) -> list[list[float]]:
        """For each text, the probability of each class."""
        return list(
            self._pool.map(self._run, texts) if self._pool and len(texts) > 1 else map(self._run, texts)
        )

    def _run(self, text: str) -> list[float]:
        ids = self._vocabulary.ids(tokens_of(text))
        feed: dict[str, Any]
        if self.facts["model"] == "conv":
            feed = {"ids": np.array([ids], dtype=np.int64)}
        else:
            feed = {
                "ids": np.array([ids], dtype=np.int32),
                "lengths": np.array([len(ids)], dtype=np.int32),
                "carry": self._start,
            }
        answer: list[float] = self._session.run(["probabilities"], feed)[0][0].tolist()
        return answer
