"""Texts → probabilities with ONNX Runtime and the library `tokenizers`, for the frameworks that serve any
function, and for the loop without a framework. $PEER_MODEL/onnx is the model.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from benchmarks.peers.transformer.shape import MAX_TOKENS


class Network:
    """One session for all calling threads. The texts of one call run one by one, each at its own length, on
    `at_once` threads; each run has `threads` threads of ONNX Runtime (0: its default, one a core).
    """

    def __init__(self, *, at_once: int = 1, threads: int = 1) -> None:
        folder = Path(os.environ["PEER_MODEL"]) / "onnx"
        names: dict[str, str] = json.loads((folder / "config.json").read_text())["id2label"]
        self.labels = [names[str(i)] for i in range(len(names))]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._pool = ThreadPoolExecutor(at_once) if at_once > 1 else None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {each.name for each in self._session.get_inputs()}

    def probabilities(self, texts: Sequence[str]) -> list[list[float]]:
        """For each text, the probability of each class."""
        return list(
            self._pool.map(self._run, texts) if self._pool and len(texts) > 1 else map(self._run, texts)
        )

    def in_batches(self, texts: Sequence[str], size: int) -> list[list[float]]:
        """The same in batches of `size` texts as they come, each padded to its longest text."""
        return [row for i in range(0, len(texts), size) for row in self._padded(texts[i : i + size]).tolist()]

    def _run(self, text: str) -> list[float]:
        row: list[float] = self._padded([text])[0].tolist()
        return row

    def _padded(self, texts: Sequence[str]) -> Any:
        encoded = [each.ids for each in self._tokenizer.encode_batch(list(texts))]
        length = max(map(len, encoded))
        ids = np.zeros((len(encoded), length), dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, each in enumerate(encoded):
            ids[i, : len(each)], mask[i, : len(each)] = each, 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        logits = self._session.run(
            None, {name: array for name, array in feed.items() if name in self._inputs}
        )[0]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)
