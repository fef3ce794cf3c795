"""Fitted n-grams."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.encoders.base import FittedEncoder, Numbers, parse_nodes
from server.arrays import Floats
from server.encoders.ngrams.analyzer import ngrams_of
from server.encoders.ngrams.encoder import NgramsSpec
from server.encoders.ngrams.index import COUNT_BITS, MAX_COUNT, NgramIndex
from server.encoders.ngrams.tables import NgramTables, read_ngram_tables, tensor_names


@dataclass(frozen=True, eq=False)
class FittedNgrams(FittedEncoder):
    """`idf` float32[n-grams]; `head` float32[n-grams, classes]."""

    spec: NgramsSpec
    ngrams: Sequence[str]
    idf: Floats
    head: Floats

    def scaled(self, factor: float) -> "FittedNgrams":
        return replace(self, head=(self.head * np.float32(factor)).astype(np.float32))

    def write_files(self, folder: Path) -> None:
        (file,) = self.spec.files
        (folder / file).write_bytes("".join(f"{ngram}\n" for ngram in self.ngrams).encode())

    def tensors(self, position: int) -> Mapping[str, npt.NDArray[Any]]:
        idf, head = tensor_names(position)
        return {
            # row 0 is that of no n-gram
            idf: np.pad(self.idf, (1, 0)).astype(np.float32),
            head: np.pad(self.head, ((1, 0), (0, 0))).astype(np.float32),
        }

    def tables(self) -> tuple[NgramIndex, NgramTables]:
        spec, classes = self.spec, self.head.shape[1]
        index = NgramIndex(self.ngrams, spec.unit, spec.shortest, spec.longest)
        return index, read_ngram_tables(self.tensors(0), 0, len(self.ngrams), classes)

    def carry_size(self, classes: int) -> int:
        return classes + 1

    def nodes(self, position: int) -> list[onnx.NodeProto]:
        idf, head = tensor_names(position)
        classes = self.head.shape[1]
        return parse_nodes(f"""
            steps = Range(zero, length, one)
            after = GreaterOrEqual(steps, begin)
            before = Less(steps, end)
            own = And(after, before)
            none = Sub(all_ids, all_ids)
            tokens = Where(own, all_ids, none)
            per_ngram = Constant <value_int = {2**COUNT_BITS}> ()
            ngrams = Div(tokens, per_ngram)
            counts = Mod(tokens, per_ngram)
            counted = Cast <to = 1> (counts)
            one_float = Constant <value_float = 1.0> ()
            at_least_one = Max(counted, one_float)
            logarithms = Log(at_least_one)
            term_weights = Add(logarithms, one_float)
            idfs = Gather({idf}, ngrams)
            weights = Mul(term_weights, idfs)
            rows = Gather({head}, ngrams)
            axis_1 = Constant <value_ints = [1]> ()
            weights_of_rows = Unsqueeze(weights, axis_1)
            products = MatMul(weights_of_rows, rows)
            sums = Squeeze(products, axis_1)
            squared = Mul(weights, weights)
            squares = ReduceSum <keepdims = 1> (squared, axis_1)
            own_features = Concat <axis = 1> (sums, squares)
            features = Add(own_features, carry)
            first = Constant <value_ints = [0]> ()
            classes = Constant <value_ints = [{classes}]> ()
            all = Constant <value_ints = [{classes + 1}]> ()
            total = Slice(features, first, classes, axis_1)
            total_squares = Slice(features, classes, all, axis_1)
            tiny = Constant <value_float = 1e-30> ()
            not_zero = Max(total_squares, tiny)
            lengths = Sqrt(not_zero)
            logits = Div(total, lengths)
        """)

    def torch_module(self) -> Any:
        from export.encoders.ngrams_module import NgramsModule

        idf, head = self.tensors(0).values()
        return NgramsModule(idf, head)

    def logits(self, texts: Sequence[str]) -> Numbers:
        logits = np.zeros((len(texts), self.head.shape[1]))
        for row, text in enumerate(texts):
            counts = Counter(ngrams_of(text, self.spec.unit, self.spec.shortest, self.spec.longest))
            known = [(self._numbers[ngram], n) for ngram, n in counts.items() if ngram in self._numbers]
            if known:
                numbers = [number for number, _ in known]
                weights = np.array([1 + math.log(min(n, MAX_COUNT)) for _, n in known])
                weights *= self.idf[numbers].astype(np.float64)
                length = math.sqrt(float(weights @ weights))
                logits[row] = weights @ self.head[numbers].astype(np.float64) / max(length, 1e-15)
        return logits

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {ngram: i for i, ngram in enumerate(self.ngrams)}
