"""A fitted transformer: its network as ONNX, its tokenizer.json, and its rows of the head. Needs no torch."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from export.encoders.base import FittedEncoder, Numbers, parse_nodes, read_by, rename
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.transformer.encoder import TransformerEncoder, TransformerSpec
from server.encoders.transformer.tokenizer import TOKENIZER_FILE
from server.engines.base import pad
from server.engines.onnx_file import read_model
from server.engines.onnx_transformer import group_tokens, groups
from server.errors import BadBundle
from server.models.windows import Windows

PREFIX = "transformer_"
"""The names of its nodes and tensors begin with this, so that those of other encoders differ."""

IDS, MASK, POOLED, HEAD = (f"{PREFIX}{name}" for name in ("ids", "mask", "pooled", "head"))


@dataclass(frozen=True, eq=False)
class FittedTransformer(FittedEncoder):
    """`network`: IDS int64[rows, length], MASK int64[rows, length] → POOLED float32[rows, features].
    `content` is that of tokenizer.json; `head` float32[features, classes]. `definition` gives the features of
    one text's ids, int32[tokens] → float32[features]; without it, the network does. `traced` is the network
    as TorchScript, where there is one.
    """

    spec: TransformerSpec
    content: str
    network: onnx.ModelProto
    head: Floats
    definition: Callable[[Ids], Floats] | None = None
    traced: Any | None = None

    @classmethod
    def of(cls, bundle: Bundle, head: Floats) -> "FittedTransformer":
        """The transformer of a bundle, under another head. Raises BadBundle if it has none."""
        for position, encoder in enumerate(bundle.encoders):
            if isinstance(encoder, TransformerEncoder):
                network = network_of(read_model(bundle), position)
                return cls(encoder.spec, encoder.content, network, head)
        raise BadBundle("the bundle has no transformer; choose one that has.")

    @property
    def has_tables(self) -> bool:
        return False

    @property
    def traces(self) -> bool:
        return self.traced is not None

    def with_head(self, head: Floats) -> "FittedTransformer":
        return replace(self, head=head)

    def scaled(self, factor: float) -> "FittedTransformer":
        return replace(self, head=(self.head * np.float32(factor)).astype(np.float32))

    def write_files(self, folder: Path) -> None:
        (folder / TOKENIZER_FILE).write_bytes(self.content.encode())

    def tensors(self, position: int) -> Mapping[str, npt.NDArray[Any]]:
        tensors = {each.name: numpy_helper.to_array(each) for each in self.network.graph.initializer}
        return tensors | {HEAD: self.head}

    def carry_size(self, classes: int) -> int:
        return self.spec.features

    def nodes(self, position: int) -> list[onnx.NodeProto]:
        before = f"""
            steps = Range(zero, width, one)
            no_steps = Mul(end, zero)
            shifted = Add(begin, steps)
            own_steps = Add(no_steps, shifted)
            inside = Less(own_steps, end)
            last = Sub(length, one)
            safe_steps = Min(own_steps, last)
            found = GatherElements <axis = 1> (all_ids, safe_steps)
            pad = Constant <value_int = {self.spec.pad_id}> ()
            {IDS} = Where(inside, found, pad)
            {MASK} = Cast <to = 7> (inside)
        """
        after = f"""
            features = Identity({POOLED})
            logits = MatMul(features, {HEAD})
        """
        return [*parse_nodes(before), *map(_copy, self.network.graph.node), *parse_nodes(after)]

    def torch_module(self) -> Any:
        from export.encoders.transformer_module import TransformerModule

        return TransformerModule(self.traced, self.head, self.spec.pad_id)

    def logits(self, texts: Sequence[str]) -> Numbers:
        def features(ids: Ids) -> Floats:
            return self.definition(ids) if self.definition else self._run([ids])[0]

        return self._logits(texts, lambda rows: np.stack([features(ids) for ids in rows]))

    def quick_logits(self, texts: Sequence[str], classes: int) -> Numbers:
        return self._logits(texts, self.features)

    def features(self, rows: Sequence[Ids], on_tokens: Callable[[int], None] = lambda _: None) -> Floats:
        """float32[rows, features], on all cores; a row is int32[tokens], of at most `max_length` of them.
        `on_tokens` gets the numbers of tokens that are done, as they are done.
        """
        lengths = np.array([len(row) for row in rows], dtype=np.int32)
        parts = list(groups(lengths, group_tokens(self.spec.precision)))
        found = np.zeros((len(rows), self.spec.features), dtype=np.float32)
        self._session  # noqa: B018 - made before the threads need it
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        try:
            computed = pool.map(lambda group: self._run([rows[index] for index in group]), parts)
            for group, values in zip(parts, computed, strict=True):
                found[group] = values
                on_tokens(int(lengths[group].sum()))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the calls that run only
        return found

    def windows_of(self, texts: Sequence[str]) -> Windows:
        """The rows of these texts, for `features`."""
        return Windows.of(self.encoder.tokenizer().encode_all(texts), [self.encoder])

    @cached_property
    def encoder(self) -> TransformerEncoder:
        return TransformerEncoder(self.spec, self.content)

    def _logits(self, texts: Sequence[str], features: Callable[[Sequence[Ids]], Floats]) -> Numbers:
        windows = self.windows_of(texts)
        logits = features(windows.rows).astype(np.float64) @ self.head.astype(np.float64)
        mean: Numbers = windows.mean_logits(logits).astype(np.float64)
        return mean

    def _run(self, rows: Sequence[Ids]) -> Floats:
        ids, lengths = pad(rows, max(map(len, rows)))
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        padded = np.where(mask, ids, self.spec.pad_id).astype(np.int64)
        found: Floats = self._session.run([POOLED], {IDS: padded, MASK: mask})[0]
        return found

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(
            self.network.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def network_of(model: onnx.ModelProto, position: int) -> onnx.ModelProto:
    """The transformer at this position of a bundle's network, as `FittedTransformer.network`."""
    inputs = {f"{IDS}{position}": IDS, f"{MASK}{position}": MASK}
    output = f"{POOLED}{position}"
    made_by = {name: node for node in model.graph.node for name in node.output}
    needed, wanted = list[onnx.NodeProto](), [output]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in inputs or name not in made_by or name in seen:
            continue
        node = made_by[name]
        seen.update(node.output)
        needed.append(node)
        wanted.extend(read_by(node))
    order = {id(node): i for i, node in enumerate(model.graph.node)}
    renamed = inputs | {output: POOLED}
    nodes = [_copy(node) for node in sorted(needed, key=lambda node: order[id(node)])]
    for node in nodes:
        rename(node, lambda name: renamed.get(name, name))
    used = {name for node in nodes for name in read_by(node)}
    value = helper.make_tensor_value_info
    int64, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "transformer",
        [value(IDS, int64, ["rows", "length"]), value(MASK, int64, ["rows", "length"])],
        [value(POOLED, floats, ["rows", "features"])],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
