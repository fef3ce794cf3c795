"""Eager networks: token ids → one vector for each text, and the linear head of a classifier."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.hugging_face.directory import check_directory, check_size
from export.hugging_face.pooling import read_pooling
from server.arrays import Floats, Ids
from server.bundle import Head
from server.errors import BadInput


@dataclass(frozen=True, eq=False)
class EagerEncoder:
    """`pooled` (ids int64[rows, length], mask int64[rows, length]) → float32[rows, features]. `positions` is
    the most tokens that it has positions for or was made for, None if there is no limit.
    """

    pooled: nn.Module
    architecture: str
    vocabulary: int
    positions: int | None

    def features(self, ids: Ids) -> Floats:
        """int32[tokens] of one text → float32[features]. Raises BadInput."""
        row = torch.from_numpy(ids).long()[None]
        try:
            with torch.inference_mode():
                found: Floats = self.pooled(row, torch.ones_like(row))[0].numpy()
        except Exception as error:  # of any network; torch raises unrelated types
            raise BadInput(
                f"a network of type {self.architecture} fails on a text of {len(ids)} tokens "
                f"({type(error).__name__}); give a smaller --max-length."
            ) from None
        return found


@dataclass(frozen=True, eq=False)
class EagerClassifier:
    """`weights` float32[features, classes], `bias` float32[classes]; `labels` in class order. `unused` are
    names of weights in the file that the network does not have.
    """

    encoder: EagerEncoder
    weights: Floats
    bias: Floats
    labels: tuple[str, ...]
    head: Head
    unused: list[str]


def load_classifier(folder: Path) -> EagerClassifier:
    """The network with a sequence-classification head in `folder`. Raises BadInput."""
    config = check_directory(folder)
    names = config.get("architectures")
    name = str(names[0])[:100] if isinstance(names, list) and names else "none"
    if not name.endswith("ForSequenceClassification"):
        raise BadInput(
            f"{folder}: expected a network for sequence classification, found {name}; for a sentence "
            "encoder without head use `prelabel train --sentence-encoder`."
        )
    model, missing, unused = _load("AutoModelForSequenceClassification", folder)
    if missing:
        raise BadInput(f"{folder}: the weights lack {missing[0]}; train and save the whole classifier.")
    _check_network(model, folder)
    numbers = range(model.config.num_labels)
    if not {*numbers} <= model.config.id2label.keys():
        raise BadInput(f"{folder}: id2label must number its labels from 0 on, without gaps.")
    labels = tuple(str(model.config.id2label[i]) for i in numbers)
    if len(labels) < 2 or model.config.problem_type == "regression":
        raise BadInput(f"{folder}: a network for regression; expected at least two labels in id2label.")
    if len(set(labels)) < len(labels):
        raise BadInput(f"{folder}: id2label has a label twice; name each class in config.json.")
    several = model.config.problem_type == "multi_label_classification"
    name, linear = _linear_head(model, folder)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    weights = linear.weight.detach().T.contiguous().numpy()
    bias = np.zeros(len(labels), np.float32) if linear.bias is None else linear.bias.detach().numpy()
    encoder = _encoder(model, lambda outputs, _: outputs.logits)
    return EagerClassifier(encoder, weights, bias, labels, "sigmoid" if several else "softmax", unused)


def load_sentence_encoder(folder: Path) -> tuple[EagerEncoder, Path, int | None]:
    """The sentence encoder in `folder`, the directory of its transformer, and its own maximum of tokens, if
    it has one. Raises BadInput.
    """
    pooling, transformer, max_length = read_pooling(folder)
    check_directory(transformer)
    model, missing, _ = _load("AutoModel", transformer)
    if unexpected := [name for name in missing if not name.startswith("pooler.")]:
        raise BadInput(f"{transformer}: the weights lack {unexpected[0]}; save the whole encoder.")
    encoder = _encoder(model, lambda outputs, mask: pooling.of(outputs.last_hidden_state, mask))
    return encoder, transformer, max_length


class Pooled(nn.Module):
    """One vector for each text, from the outputs of a transformers model."""

    def __init__(self, model: nn.Module, pool: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.pool = pool

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.pool(self.model(input_ids=ids, attention_mask=mask), mask)


def _encoder(model: Any, pool: Callable[[Any, Tensor], Tensor]) -> EagerEncoder:
    return EagerEncoder(
        Pooled(model, pool).eval(),
        str(model.config.model_type),
        int(model.get_input_embeddings().weight.shape[0]),
        _positions(model),
    )


def _load(kind: str, folder: Path) -> tuple[Any, list[str], list[str]]:
    """The network in float32, the names of weights that the file lacks, and of those that are not used.
    Raises BadInput.
    """
    transformers = import_transformers()
    try:
        model, found = getattr(transformers, kind).from_pretrained(
            folder,
            # plain matrix products, which every version of ONNX has
            attn_implementation="eager",
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # transformers and safetensors raise unrelated types
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if "ignore_mismatched_sizes" in reason:  # it refers to a report that was not shown
            reason = "the weights have other shapes than config.json says, or it lacks id2label"
        raise BadInput(f"{folder}: transformers cannot load it ({reason}).") from None
    return model.eval(), sorted(found["missing_keys"]), sorted(found["unexpected_keys"])


def _check_network(model: Any, folder: Path) -> None:
    """Raises BadInput."""
    check_size(4 * sum(each.numel() for each in model.parameters()), folder)
    for name, each in model.named_parameters():
        if not torch.isfinite(each).all():
            raise BadInput(f"{folder}: {name} has values that are not finite; train and save it again.")
    if getattr(model.config, "attention_type", None) == "block_sparse":
        # BigBird turns to full attention, for good, with the first short text that it reads
        raise BadInput(
            f"{folder}: answers of block_sparse attention depend on earlier texts; set attention_type to "
            "original_full in config.json."
        )


def import_transformers() -> Any:
    """The library, which must not reach a network. Raises BadInput if it is not installed."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        transformers: Any = import_module("transformers")
    except ModuleNotFoundError as error:
        raise BadInput(
            f"a transformer needs {error.name}, which is not installed: install prelabel[transformers]."
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _linear_head(model: Any, folder: Path) -> tuple[str, nn.Linear]:
    """The last layer, whose outputs are the logits, and its name. Raises BadInput."""
    outputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.__setitem__(name, output))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels
    ]
    try:
        ids = torch.arange(1, 9)[None] % model.get_input_embeddings().weight.shape[0]
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    except Exception as error:  # of any network that is no text classifier
        raise BadInput(
            f"{folder}: {type(model).__name__} cannot read token ids ({type(error).__name__})."
        ) from None
    for hook in hooks:
        hook.remove()
    for name, output in outputs.items():
        if output.shape == logits.shape and torch.equal(output, logits):
            return name, model.get_submodule(name)
    raise BadInput(
        f"{folder}: the last layer of {type(model).__name__} is not one linear layer over a text, so it "
        "cannot become a bundle."
    )


def _positions(model: Any) -> int | None:
    """The most tokens that the network has position embeddings for, or else was made for. Those of RoBERTa
    begin behind the id of the padding token.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    made_for = getattr(model.config, "max_position_embeddings", None)
    return made_for if isinstance(made_for, int) and made_for > 0 else None
