"""What a Hugging Face directory must hold, checked before anything of it is loaded.

Only config.json, tokenizer.json and safetensors are read: nothing is unpickled, and no code of the directory
is run.
"""

import json
from pathlib import Path
from typing import Any

from server.errors import BadInput

WEIGHTS = "model.safetensors", "model.safetensors.index.json"

MAX_WEIGHTS = 2**31 - 2**24
"""Most bytes of the weights: a model.onnx is one protobuf message, which ends at 2 GiB."""


def check_directory(folder: Path) -> dict[str, Any]:
    """The config.json. Raises BadInput with the remedy."""
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: there is no such directory, and nothing is downloaded; name one that save_pretrained "
            "wrote."
        )
    if (folder / "manifest.json").is_file() and not (folder / "config.json").is_file():
        raise BadInput(
            f"{folder}: this is a bundle already; name a directory that save_pretrained wrote, or train on "
            "the bundle with `prelabel train --start-from`."
        )
    config = read_json(folder / "config.json")
    if not any((folder / name).is_file() for name in WEIGHTS):
        pickled = next(folder.glob("pytorch_model*.bin"), None)
        found = f"only {pickled.name}, which is a pickle and is not read" if pickled else "none"
        raise BadInput(
            f"{folder}: expected {WEIGHTS[0]}, found {found}; save the model with "
            "save_pretrained(…, safe_serialization=True)."
        )
    if (folder / "adapter_config.json").is_file():
        raise BadInput(
            f"{folder}: its adapter (adapter_config.json) is not applied; merge it first: "
            "model.merge_and_unload().save_pretrained(…)."
        )
    check_size(sum(file.stat().st_size for file in folder.glob("*.safetensors")), folder)
    if not (folder / "tokenizer.json").is_file():
        raise BadInput(
            f"{folder}: no tokenizer.json; save the tokenizer with "
            "AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(…)."
        )
    return config


def check_size(size: int, folder: Path) -> None:
    """Raises BadInput for weights of more bytes than a bundle holds."""
    if size > MAX_WEIGHTS:
        raise BadInput(
            f"{folder}: the weights have {size / 2**30:.1f} GiB in float32; a bundle holds up to 2. Take a "
            "smaller one."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Raises BadInput."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be read ({error.strerror}); name a directory that save_pretrained wrote."
        ) from None
    except (ValueError, RecursionError):
        raise BadInput(f"{path}: not JSON; save the model again.") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected an object; save the model again.")
    return content
