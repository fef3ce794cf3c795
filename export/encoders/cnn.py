"""A fitted CNN, as matrices: embedding, taps of the filters (`export/folded_cnn.py`), biases, head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.encoders.base import FittedEncoder, Numbers, parse_nodes
from server.arrays import Floats
from server.bundle import Bundle
from server.encoders.base import TextTokenizer
from server.encoders.cnn.encoder import CnnEncoder, CnnSpec, cnn_of
from server.encoders.cnn.learned import LEARNED_FILE
from server.encoders.cnn.tables import Int16Tables, read_int16_tables
from server.engines.onnx_file import read_tensors


@dataclass(frozen=True, eq=False)
class FittedCnn(FittedEncoder):
    """`embedding` [words, dimensions] and `taps` [dimensions, width × filters] for each width, float16 or
    float32; `biases` float32[filters] for each width; `head` float32[features, classes]; `learned` is the
    content of tokenizer.json.
    """

    spec: CnnSpec
    tokens: Sequence[str]
    embedding: npt.NDArray[Any]
    taps: Sequence[npt.NDArray[Any]]
    biases: Sequence[Floats]
    head: Floats
    learned: str | None = None

    @classmethod
    def of(cls, bundle: Bundle, head: Floats) -> "FittedCnn":
        """The CNN of a bundle, under another head. Raises BadBundle."""
        cnn, tensors = cnn_of(bundle.encoders), read_tensors(bundle)
        banks = range(len(cnn.spec.widths))
        return cls(
            cnn.spec,
            cnn.tokens,
            tensors["embedding"],
            [tensors[f"taps{i}"] for i in banks],
            [tensors[f"bias{i}"] for i in banks],
            head,
            cnn.learned,
        )

    def with_head(self, head: Floats) -> "FittedCnn":
        return replace(self, head=head)

    def scaled(self, factor: float) -> "FittedCnn":
        return replace(self, head=(self.head * np.float32(factor)).astype(np.float32))

    def write_files(self, folder: Path) -> None:
        write_tokens(self.tokens, self.learned, folder)

    def tensors(self, position: int) -> Mapping[str, npt.NDArray[Any]]:
        banks = {f"taps{i}": taps for i, taps in enumerate(self.taps)}
        banks |= {f"bias{i}": bias for i, bias in enumerate(self.biases)}
        return {"embedding": self.embedding, "head": self.head} | banks

    def tables(self) -> tuple[TextTokenizer, Int16Tables]:
        return self.tokenizer(), read_int16_tables(self.tensors(0), self.spec.widths, len(self.tokens))

    def carry_size(self, classes: int) -> int:
        return self.spec.features

    def nodes(self, position: int) -> list[onnx.NodeProto]:
        filters = self.spec.features // len(self.spec.widths)
        lines = [
            "embedding_float = Cast <to = 1> (embedding)",
            f"as_rows = Constant <value_ints = [-1, {filters}]> ()",
            "axis_1 = Constant <value_ints = [1]> ()",
            "tokens = Sub(end, begin)",
            "longest = ReduceMax <keepdims = 0> (tokens)",
        ]
        for i, width in enumerate(self.spec.widths):
            lines += [
                f"taps_float_{i} = Cast <to = 1> (taps{i})",
                f"products_{i} = MatMul(embedding_float, taps_float_{i})",
                f"table_{i} = Reshape(products_{i}, as_rows)",
                f"width_{i} = Constant <value_int = {width}> ()",
                f"before_last_{i} = Constant <value_int = {width - 1}> ()",
                f"windows_{i} = Sub(longest, before_last_{i})",
                f"steps_{i} = Range(zero, windows_{i}, one)",
                f"last_{i} = Sub(tokens, width_{i})",
                f"own_steps_{i} = Min(steps_{i}, last_{i})",
                f"starts_{i} = Add(own_steps_{i}, begin)",
            ]
            for tap in range(width):
                before = f"sum_{i}_{tap - 1}" if tap else f"bias{i}"
                lines += [
                    f"tap_{i}_{tap} = Constant <value_int = {tap}> ()",
                    f"at_{i}_{tap} = Add(starts_{i}, tap_{i}_{tap})",
                    f"words_{i}_{tap} = GatherElements <axis = 1> (all_ids, at_{i}_{tap})",
                    f"first_{i}_{tap} = Mul(words_{i}_{tap}, width_{i})",
                    f"row_{i}_{tap} = Add(first_{i}_{tap}, tap_{i}_{tap})",
                    f"looked_up_{i}_{tap} = Gather(table_{i}, row_{i}_{tap})",
                    f"sum_{i}_{tap} = Add({before}, looked_up_{i}_{tap})",
                ]
            lines.append(f"pooled_{i} = ReduceMax <keepdims = 0> (sum_{i}_{width - 1}, axis_1)")
        pooled = ", ".join(f"pooled_{i}" for i in range(len(self.spec.widths)))
        lines += [
            f"own_features = Concat <axis = 1> ({pooled})",
            "features = Max(own_features, carry)",
            "logits = MatMul(features, head)",
        ]
        return parse_nodes("\n".join(lines))

    def torch_module(self) -> Any:
        from export.encoders.cnn_module import CnnModule

        return CnnModule(self.spec.widths, self.embedding, self.taps, self.biases, self.head)

    def logits(self, texts: Sequence[str]) -> Numbers:
        tokenizer = self.tokenizer()
        rows = [self.features(tokenizer.encode(text)) for text in texts]
        logits: Numbers = np.stack(rows) @ self.head.astype(np.float64)
        return logits

    def tokenizer(self) -> TextTokenizer:
        return CnnEncoder(
            self.spec, {token: i for i, token in enumerate(self.tokens)}, self.learned
        ).tokenizer()

    def features(self, ids: npt.NDArray[np.int32]) -> Numbers:
        """float64[features] of one text's ids int32[tokens]."""
        embedded = self.embedding[ids].astype(np.float64)
        pooled = []
        for width, taps, bias in zip(self.spec.widths, self.taps, self.biases, strict=True):
            looked_up = (embedded @ taps.astype(np.float64)).reshape(len(ids), width, -1)
            windows = len(ids) - width + 1
            sums = sum(looked_up[tap : tap + windows, tap] for tap in range(width))
            pooled.append(np.maximum(np.max(sums + bias, axis=0), 0))
        return np.concatenate(pooled)


def write_tokens(tokens: Sequence[str], learned: str | None, folder: Path) -> None:
    """Write the CNN's files: the tokens in the order of their ids, and the tokenizer.json `learned`."""
    (folder / "vocab.txt").write_bytes("".join(f"{token}\n" for token in tokens).encode())
    if learned is not None:
        (folder / LEARNED_FILE).write_bytes(learned.encode())
