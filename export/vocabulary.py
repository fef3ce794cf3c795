"""Reads vocabularies: a text file with one token a line, or torchtext's pickled `vocab_obj.pt`.

`torch.save` of a `torchtext.vocab.Vocab` is a zip with one pickle; `export/safe_pickle.py` reads it as data.
"""

import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

from export.safe_pickle import NATIVE_VOCAB, PickleReader
from server.encoders.lines import read_lines
from server.errors import BadBundle, BadInput

UNKNOWN, PAD = "<unk>", "<pad>"

MAX_PICKLE = 64 * 2**20
"""Maximum bytes of a pickled vocabulary."""


def is_utf_8(token: str) -> bool:
    """Whether a file can hold it: lone surrogates, which texts in JSON may have, are not in UTF-8."""
    return token.isascii() or not any("\ud800" <= character <= "\udfff" for character in token)


@dataclass(frozen=True)
class Vocabulary:
    """`tokens` are in the order of their ids."""

    tokens: tuple[str, ...]
    unknown_id: int
    pad_id: int


def read_vocab(path: Path) -> Vocabulary:
    """Raises BadInput."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    if start.startswith((b"PK", b"\x80")):
        tokens, unknown = _from_pickle(path, _pickle_of(path))
    elif start.lstrip().startswith(b"<!") or start.lstrip().lower().startswith(b"<html"):
        raise BadInput(f"{path}: expected a vocabulary, found an HTML page (a failed download?).")
    else:
        try:
            tokens, unknown = read_lines(path), None
        except BadBundle as error:
            raise BadInput(str(error)) from None
    ids = {token: i for i, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        raise BadInput(f"{path}: expected every token once, found {len(tokens) - len(ids)} repeated.")
    if any(not token or "\n" in token for token in tokens):
        raise BadInput(f"{path}: expected tokens of at least one character without a line end.")
    unknown = ids.get(UNKNOWN) if unknown is None else unknown
    if unknown is None or PAD not in ids or not 0 <= unknown < len(tokens):
        raise BadInput(
            f"{path}: expected the tokens {UNKNOWN} and {PAD}, found at most one of them among "
            f"{len(tokens)} tokens."
        )
    return Vocabulary(tuple(tokens), unknown, ids[PAD])


def _pickle_of(path: Path) -> bytes:
    """The pickle in torch's zip format, or the whole file in its older format."""
    try:
        if not zipfile.is_zipfile(path):
            _check_size(path, path.stat().st_size)
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise BadInput(
                    f"{path}: expected a torch archive with one data.pkl, found a zip with {len(pickles)}."
                )
            _check_size(path, pickles[0].file_size)
            return archive.read(pickles[0])
    except BadInput:
        raise
    except Exception as error:  # zipfile raises a dozen unrelated types for damaged archives
        raise BadInput(
            f"{path}: expected a torch archive, found a damaged zip ({type(error).__name__}: {error})."
        ) from None


def _check_size(path: Path, size: int) -> None:
    if size > MAX_PICKLE:
        raise BadInput(
            f"{path}: expected a vocabulary of at most {MAX_PICKLE // 2**20} MB, found {size} bytes."
        )


def _from_pickle(path: Path, data: bytes) -> tuple[list[str], int | None]:
    """(tokens, default index) of a torchtext Vocab: its state is (version, [default index], [tokens], [])."""
    expected = f"{path}: expected a torchtext Vocab"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools warns about odd escapes
            native = [
                symbol
                for symbol in PickleReader().run(data)
                if symbol.name == NATIVE_VOCAB and symbol.state is not None
            ]
    except BadInput as error:
        raise BadInput(f"{expected}, found a pickle with {error}; it is not opened.") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{expected}, found a damaged pickle ({type(error).__name__}).") from None
    state = native[0].state if len(native) == 1 else None
    if not (
        isinstance(state, tuple)
        and len(state) == 4
        and isinstance(state[1], list)
        and isinstance(state[2], list)
    ):
        raise BadInput(f"{expected}, found a pickle of something else.")
    _, indices, tokens, _ = state
    if not all(isinstance(token, str) for token in tokens) or not all(
        type(index) is int for index in indices
    ):
        raise BadInput(f"{expected} of text tokens, found tokens of other types.")
    return tokens, indices[0] if indices else None
