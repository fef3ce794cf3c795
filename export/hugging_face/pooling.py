"""How a sentence encoder makes one vector of a text, as sentence-transformers saves it in modules.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from export.hugging_face.directory import read_json
from server.errors import BadInput

Mode = Literal["mean", "cls", "max"]

MODES: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
"""The switches of 1_Pooling/config.json that are read."""


@dataclass(frozen=True)
class Pooling:
    """`normalized`: to length 1."""

    mode: Mode = "mean"
    normalized: bool = False

    def of(self, states: Tensor, mask: Tensor) -> Tensor:
        """states float32[rows, length, features], mask int64[rows, length] → float32[rows, features]."""
        known = mask.unsqueeze(-1).to(states.dtype)
        if self.mode == "cls":
            pooled = states[:, 0]
        elif self.mode == "max":
            pooled = (states * known + (known - 1) * 1e9).amax(dim=1)
        else:
            pooled = (states * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=1) if self.normalized else pooled


def read_pooling(folder: Path) -> tuple[Pooling, Path, int | None]:
    """The pooling of the sentence encoder in `folder`, the directory of its transformer, and its maximum of
    tokens, if it has one. A directory without modules.json is a transformer whose tokens' mean is taken, as
    sentence-transformers does. Raises BadInput.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return Pooling(), folder, None
    try:
        modules = [
            (str(each["type"]).rpartition(".")[2], folder / each["path"])
            for each in json.loads(file.read_bytes())
        ]
    except (OSError, ValueError, TypeError, KeyError):
        raise BadInput(f"{file}: not a list of modules; save the sentence encoder again.") from None
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise BadInput(
            f"{file}: expected the modules Transformer, Pooling and perhaps Normalize, found "
            f"{', '.join(kinds)[:200]}; choose another sentence encoder."
        )
    transformer, own = modules[0][1], modules[1][1] / "config.json"
    if not all(path.resolve().is_relative_to(folder.resolve()) for _, path in modules):
        raise BadInput(f"{file}: a module lies outside of the directory; save the sentence encoder again.")
    settings_file = transformer / "sentence_bert_config.json"
    settings = read_json(settings_file) if settings_file.is_file() else {}
    if settings.get("do_lower_case"):
        raise BadInput(
            f"{settings_file}: do_lower_case is not supported, because its tokenizer.json does not do it; "
            "choose another sentence encoder."
        )
    longest = settings.get("max_seq_length")
    return (
        Pooling(_mode(own), normalized="Normalize" in kinds),
        transformer,
        longest if isinstance(longest, int) and longest > 0 else None,
    )


def _mode(file: Path) -> Mode:
    config = read_json(file)
    if (named := config.get("pooling_mode")) in ("mean", "cls", "max"):
        found: Mode = named
        return found
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) == 1 and chosen[0] in MODES:
        return MODES[chosen[0]]
    raise BadInput(
        f"{file}: expected one of {', '.join(MODES)}, found {', '.join(chosen) or 'none'}; choose another "
        "sentence encoder."
    )
