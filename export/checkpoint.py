"""Reads the tutorial's checkpoint `cnn.pt` (a state_dict) without executing anything in it.

Each error names the file, what was expected and what was found.
"""

import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from export.cnn import Network, NetworkShape, SentimentCNN
from export.vocabulary import read_vocab
from server.errors import BadInput

MAX_PICKLE = 2**14
"""Maximum bytes of a state_dict without its numbers; it takes about 150 for each tensor."""

KEY = re.compile(r"embedding\.weight|convs\.\d+\.(weight|bias)|fc\.(weight|bias)")


def read_network(checkpoint: Path, vocab: Path, labels: tuple[str, ...]) -> Network:
    """The network of a checkpoint and its vocabulary, with temperature 1: its probabilities are those of the
    checkpoint. Raises BadInput.
    """
    state = read_state(checkpoint)
    shape = shape_of(state, checkpoint)
    vocabulary = read_vocab(vocab)
    if len(vocabulary.tokens) != shape.vocabulary:
        raise BadInput(
            f"{vocab}: expected {shape.vocabulary} tokens, one for each embedding row of {checkpoint}, "
            f"found {len(vocabulary.tokens)}."
        )
    if len(labels) != shape.classes or len(set(labels)) != len(labels) or not all(labels):
        raise BadInput(
            f"--labels: expected {shape.classes} different labels, one for each class of {checkpoint}, "
            f"found {', '.join(labels) or 'none'}."
        )
    cnn = SentimentCNN(shape, pad=vocabulary.pad_id)
    cnn.load_state_dict(state)
    return Network(cnn.eval(), vocabulary.tokens, vocabulary.unknown_id, vocabulary.pad_id, labels)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state_dict as float32 tensors with finite values. Raises BadInput."""
    expected = f"{path}: expected a state_dict saved by torch.save"
    try:
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(f"{expected}, but the file cannot be read ({error.strerror}).") from None
    except Exception:  # torch raises a dozen unrelated types for other files
        raise BadInput(f"{expected}, found {_what_is(path)}.") from None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise BadInput(
            f"{expected}, found a {type(state).__name__} that is not a dict of tensors; save "
            "model.state_dict()."
        )
    for key, value in state.items():
        if not KEY.fullmatch(key):
            raise BadInput(
                f'{path}: expected only embedding, convs.N and fc tensors, found "{key}": this is another '
                "network."
            )
        if not value.is_floating_point() or value.layout is not torch.strided:
            raise BadInput(
                f"{path}: {key}: expected dense floating-point numbers, found {value.dtype}, {value.layout}."
            )
        if (
            value.device.type != "cpu"
            or value.numel() * value.element_size() > value.untyped_storage().nbytes()
        ):
            raise BadInput(
                f"{path}: {key}: expected all of its {value.numel()} numbers in the file, found fewer; "
                "save model.state_dict()."
            )
        if not torch.isfinite(value.float()).all():
            raise BadInput(
                f"{path}: {key}: expected finite numbers, found NaN or infinity; the training failed."
            )
    return {key: value.float() for key, value in state.items()}


def _check_archive(path: Path) -> None:
    """Raises ValueError for compressed entries, which torch.save never writes and which may expand to any
    size, and for a long pickle: torch needs minutes to reject some, and a state_dict's is short.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or (
                entry.filename.endswith(".pkl") and entry.file_size > MAX_PICKLE
            ):
                raise ValueError(entry.filename)


def shape_of(state: dict[str, Tensor], path: Path) -> NetworkShape:
    """The sizes of the network, from the shapes of its tensors. Raises BadInput if a tensor is missing or the
    shapes contradict each other.
    """

    def tensor(key: str, *sizes: int | None) -> tuple[int, ...]:
        if key not in state:
            raise BadInput(
                f"{path}: expected a tensor {key}, found only {', '.join(sorted(state)) or 'nothing'}."
            )
        found = tuple(state[key].shape)
        if (
            len(found) != len(sizes)
            or any(size not in (None, got) for size, got in zip(sizes, found, strict=True))
            or 0 in found
        ):
            wanted = " × ".join("any" if size is None else str(size) for size in sizes)
            raise BadInput(
                f"{path}: {key}: expected the shape {wanted}, found "
                f"{' × '.join(map(str, found)) or 'a single number'}."
            )
        return found

    vocabulary, dimensions = tensor("embedding.weight", None, None)
    filters = tensor("convs.0.weight", None, dimensions, None)[0]
    count = len({key.split(".")[1] for key in state if key.startswith("convs.")})
    widths = []
    for i in range(count):
        widths.append(tensor(f"convs.{i}.weight", filters, dimensions, None)[2])
        tensor(f"convs.{i}.bias", filters)
    classes = tensor("fc.weight", None, filters * count)[0]
    tensor("fc.bias", classes)
    if classes < 2:
        raise BadInput(f"{path}: fc.weight: expected at least two classes, found {classes}.")
    return NetworkShape(vocabulary, dimensions, filters, tuple(widths), classes)


def _what_is(path: Path) -> str:
    start = path.read_bytes()[:64]
    if not start:
        return "an empty file"
    if start.lstrip().startswith(b"<"):
        return "an HTML or XML page (a failed download?)"
    if start.startswith(b"PK"):
        return (
            "a zip archive that is no plain state_dict: it is damaged or compressed, or holds objects other "
            "than tensors"
        )
    if start.startswith(b"\x80"):
        return (
            "a pickle, which could run code and is not opened; a state_dict from before torch 1.6 is a "
            "pickle "
            "too, save it again with a newer torch"
        )
    return "other bytes"
