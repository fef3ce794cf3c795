"""Token ids instead of texts, in the Open Inference Protocol: `input_ids` and `attention_mask`. Pure
functions.

Both are INT64 or INT32, [n, tokens]: a row for each text, filled up behind its end. The mask is 1 for each
token of the text, then 0; without it, all tokens count. The ids are taken as they are, special tokens
included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from server.api.open_inference_schemas import TOKEN_INPUTS, Data, InferInput
from server.encoders.transformer.encoder import TransformerEncoder
from server.errors import BadRequest, RequestTooLarge
from server.prediction.token_rows import TokenRows

DATATYPES: dict[str, np.dtype[Any]] = {"INT64": np.dtype("<i8"), "INT32": np.dtype("<i4")}

IDS, MASK = TOKEN_INPUTS

N = TypeVar("N", np.int32, np.uint8)


@dataclass(frozen=True)
class SentNumbers:
    """The tensor `sent`, which is the `field` of the request. Its data are `binary` or JSON, in `pieces`.
    `numbers` and `lists` count what the pieces hold, the tensor itself included.
    """

    field: str
    sent: InferInput
    binary: memoryview | None
    pieces: Iterator[Data]
    numbers: int
    lists: int


def read_tokens(
    tensors: Sequence[SentNumbers], transformer: TransformerEncoder | None, max_texts: int
) -> TokenRows:
    """The rows of at most `max_texts` texts. Nothing is decoded before it is known how much it is.

    Raises BadRequest, which names the field, and RequestTooLarge.
    """
    ids, mask = _by_name(tensors)
    if transformer is None:
        raise BadRequest(
            "inputs: this model takes `text`; token ids are for a model that is a single transformer, and "
            "not for an ensemble."
        )
    _check_shape(ids, transformer.max_length, max_texts)
    for tensor in filter(None, (ids, mask)):
        _check_type_and_number(tensor, ids.sent.shape)
    spec = transformer.spec
    numbers = _numbers(ids, spec.vocabulary, f"token ids from 0 to {spec.vocabulary - 1}", np.int32)
    texts, tokens = numbers.shape
    if mask is None:
        rows = [*numbers]
    else:
        lengths = _lengths(_numbers(mask, 2, "0 or 1", np.uint8), mask.field)
        rows = [row[:length] for row, length in zip(numbers, lengths, strict=True)]
        tokens = max(lengths, default=0)
    return TokenRows(rows, tokens if texts else 0, int(numbers.max(initial=0)))


def _by_name(tensors: Sequence[SentNumbers]) -> tuple[SentNumbers, SentNumbers | None]:
    """The ids and the mask. Raises BadRequest."""
    by_name = {tensor.sent.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors) or not {IDS} <= by_name.keys() <= {*TOKEN_INPUTS}:
        raise BadRequest(
            f"inputs: expected `text`, or `{IDS}` with or without `{MASK}`, found another name or a repeated "
            "one."
        )
    return by_name[IDS], by_name.get(MASK)


def _check_shape(ids: SentNumbers, max_length: int, max_texts: int) -> None:
    shape = ids.sent.shape
    if len(shape) != 2 or (shape[0] and not shape[1]):
        raise BadRequest(
            f"{ids.field}.shape: expected [n, tokens] for n texts with at least one token, found {shape[:8]}."
        )
    texts, tokens = shape
    if texts > max_texts:
        raise RequestTooLarge(
            f"{ids.field}.shape: {texts} texts in one request; the maximum is {max_texts} "
            "(PRELABEL_MAX_TASKS). Send fewer texts per request."
        )
    if tokens > max_length:
        raise BadRequest(
            f"{ids.field}.shape: rows of {tokens} tokens; the model reads at most {max_length}. Token ids "
            "are taken as they are: send shorter rows, or `text`, which the server fits to the model."
        )


def _check_type_and_number(tensor: SentNumbers, shape: Sequence[int]) -> None:
    """Raises BadRequest unless it has as many numbers as its shape says, which is `shape`."""
    sent, field = tensor.sent, tensor.field
    if sent.datatype not in DATATYPES:
        raise BadRequest(f"{field}.datatype: expected {' or '.join(DATATYPES)}, found another one.")
    if sent.shape != shape:
        raise BadRequest(
            f"{field}.shape: expected that of the other input, {list(shape)}, found {sent.shape[:8]}."
        )
    texts, tokens = shape
    count = texts * tokens
    if tensor.binary is not None:
        size = count * DATATYPES[sent.datatype].itemsize
        if len(tensor.binary) != size:
            raise BadRequest(
                f"{field}.parameters.binary_data_size: expected {size} bytes by its shape {list(shape)} and "
                f"{sent.datatype}, found {len(tensor.binary)}."
            )
    elif tensor.numbers != count or tensor.lists not in (1, 1 + texts):
        raise BadRequest(
            f"{field}.data: expected {count} numbers by its shape {list(shape)}, in one list or in a list "
            f"for each text, found {tensor.numbers} in {tensor.lists} lists."
        )


def _numbers(tensor: SentNumbers, bound: int, expected: str, dtype: type[N]) -> npt.NDArray[N]:
    """The tensor as [n, tokens]. Raises BadRequest for a number that is not from 0 to below `bound`."""
    texts, tokens = tensor.sent.shape
    found = np.empty(texts * tokens, dtype)
    parts = (
        (_flat(piece, tokens, tensor.field) for piece in tensor.pieces)
        if tensor.binary is None
        else iter([np.frombuffer(tensor.binary, DATATYPES[tensor.sent.datatype])] if found.size else [])
    )
    at = 0
    for part in parts:
        if part.size and not 0 <= part.min() <= part.max() < bound:
            raise BadRequest(f"{tensor.field}.data: expected {expected}, found another number.")
        found[at : at + part.size] = part
        at += part.size
    return found.reshape(texts, tokens)


def _flat(data: Data, tokens: int, field: str) -> npt.NDArray[np.int64]:
    """Numbers, or lists of `tokens` numbers each. Raises BadRequest."""
    numbers: list[object] = [*data]
    if {type(each) for each in data} == {list}:
        rows = [each for each in data if isinstance(each, list)]
        if {len(row) for row in rows} != {tokens}:
            raise BadRequest(f"{field}.data: expected {tokens} numbers in each list, found another number.")
        numbers = [*chain.from_iterable(rows)]
    if not {type(each) for each in numbers} <= {int}:
        raise BadRequest(f"{field}.data: expected whole numbers, found another value.")
    try:
        return np.array(numbers, dtype=np.int64)
    except OverflowError:
        raise BadRequest(f"{field}.data: expected whole numbers of 64 bits, found a larger one.") from None


def _lengths(mask: npt.NDArray[np.uint8], field: str) -> list[int]:
    """The number of ones at the beginning of each row. Raises BadRequest for a one after a zero, and for a
    row without.
    """
    wrong = (mask[:, 1:] > mask[:, :-1]).any(axis=1)
    if wrong.any():
        raise BadRequest(
            f"{field}.data: expected ones and then zeros in each row, found a one after a zero in row "
            f"{wrong.argmax()}; fill rows up behind their end."
        )
    lengths = mask.sum(axis=1, dtype=np.int64)
    if not lengths.all():
        raise BadRequest(
            f"{field}.data: expected at least one token in each row, found none in row "
            f"{(lengths == 0).argmax()}."
        )
    found: list[int] = lengths.tolist()
    return found
