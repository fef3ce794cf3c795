"""Encodes and decodes the Open Inference Protocol, version 2, for a text classifier. Pure functions.

One input, `text`, BYTES [n] or [n, 1]; or token ids (`open_inference_tokens.py`). Outputs: `probabilities`,
FP32 [n, labels], and `label`, BYTES [n]. The data of a tensor are JSON or, with the extension
"binary_tensor_data", bytes that follow the JSON: numbers are little-endian, and each element of BYTES
follows its length in four bytes.
"""

import re
import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from typing import Any

import msgspec

from server.api.open_inference_schemas import (
    INPUT,
    OUTPUTS,
    TOKEN_INPUTS,
    AnswerParameters,
    Data,
    InferAnswer,
    InferInput,
    InferOutput,
    InferRequest,
    OutputDataParameters,
    WantedOutput,
)
from server.api.open_inference_tokens import SentNumbers, read_tokens
from server.arrays import Floats
from server.encoders.transformer.encoder import TransformerEncoder
from server.errors import BadRequest, RequestTooLarge
from server.prediction.token_rows import TokenRows
from server.transport.json_codec import PARSE_IN_THREAD_BYTES, check_utf8, decode_leniently
from server.transport.json_slices import SLICE, SlicedList, cut_lists

DATATYPES = {
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
}

HEADER_LENGTH = "inference-header-content-length"
"""Header: the number of bytes of the body that are JSON."""

EXAMPLE = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["…"]}]}'

MAX_UTF8 = 4
"""Bytes of a character in UTF-8."""

CHUNK = 2_000
"""Numbers encoded per call, which takes 0.1 ms; longer calls would hold the interpreter lock."""


@dataclass(frozen=True)
class ParsedInferRequest:
    """`outputs` are pairs of a name and whether its tensor is wanted as bytes; `texts` are the input's, or
    their token ids.
    """

    request: InferRequest
    outputs: tuple[tuple[str, bool], ...]
    texts: list[str] | TokenRows = field(default_factory=list)


_DATA = [("inputs", number, "data") for number in range(len(TOKEN_INPUTS))]
"""Where the lists are that may be long."""

_STAND_IN = secrets.token_hex()
"""The one text instead of what is decoded later; no client knows it."""

_request = msgspec.json.Decoder(InferRequest)
_data = msgspec.json.Decoder(Data)


def header_length(header: str | None, body: int) -> int:
    """The number of bytes of the body that are JSON, from the `header`; all without it. Raises BadRequest."""
    if header is None:
        return body
    if not (header.isascii() and header.isdecimal()) or int(header[:20]) > body:
        raise BadRequest(
            f"Inference-Header-Content-Length: expected the number of JSON bytes in the body, at most {body}."
        )
    return int(header[:20])


def read_request(head: bytearray) -> ParsedInferRequest:
    """Reads the JSON of a request. Raises BadRequest, which names the field."""
    try:
        check_utf8(head)
        request = _request.decode(head)
    except msgspec.ValidationError as error:
        raise BadRequest(_in_words(str(error))) from None
    except (ValueError, RecursionError) as error:
        request = _decode_leniently(head, error, InferRequest)
    return ParsedInferRequest(request, tuple(_outputs(request)))


def read_body(
    body: bytearray,
    json_size: int,
    max_texts: int,
    max_text: int,
    transformer: TransformerEncoder | None = None,
    *,
    large: int = PARSE_IN_THREAD_BYTES,
    least: int = SLICE,
) -> ParsedInferRequest:
    """The request whose first `json_size` bytes are JSON, with its texts: at most `max_texts`, of at most
    `max_text` characters each where a longer one would take long to decode. If there is a `transformer`, they
    may be its token ids. JSON of at least `large` bytes is decoded in slices of at least `least` bytes.

    Raises BadRequest, RequestTooLarge.
    """
    view, lists = memoryview(body), list[SlicedList | None]()
    if json_size < large:
        parsed = read_request(bytearray(view[:json_size]))
    else:
        head, lists = cut_lists(
            view[:json_size],
            _DATA,
            stand_in=msgspec.json.encode([_STAND_IN]),
            max_text=max_text,
            least=least,
        )
        parsed = read_request(head)
    tensors = view[json_size:]
    if any(each.name in TOKEN_INPUTS for each in parsed.request.inputs):
        return replace(
            parsed, texts=read_tokens(_sent_numbers(parsed, lists, tensors), transformer, max_texts)
        )
    count = count_texts(parsed, max_texts)
    if lists and lists[0] is not None:
        texts: list[str] = []
        _check_number(len(lists[0]), parsed, count, at_most=True)
        for each in lists[0].slices():
            texts += _flat(_decode_slice(each))
            _check_number(len(texts), parsed, count, at_most=True)
        if _is_cut(parsed, 0):
            parsed.request.inputs[0].data = [*texts]
    return replace(parsed, texts=read_texts(parsed, count, tensors, max_text))


def _is_cut(parsed: ParsedInferRequest, index: int) -> bool:
    """Whether the data of this input were cut out; else there are none, or a second field of that name
    counts.
    """
    inputs = parsed.request.inputs
    return index < len(inputs) and inputs[index].data == [_STAND_IN]


def _sent_numbers(
    parsed: ParsedInferRequest, lists: Sequence[SlicedList | None], tensors: memoryview
) -> list[SentNumbers]:
    """The inputs with their data: of `lists`, which were cut out, or of `tensors`, behind the JSON. Raises
    BadRequest.
    """
    inputs = parsed.request.inputs
    if len(inputs) > len(TOKEN_INPUTS):
        names = " and ".join(f"`{name}`" for name in TOKEN_INPUTS)
        raise BadRequest(f"inputs: expected {names}, found {len(inputs)} inputs.")
    for index, unused in enumerate(lists):
        if unused is not None and not _is_cut(parsed, index):
            for each in unused.slices():
                _decode_slice(each)
    found, begin = list[SentNumbers](), 0
    for index, (sent, sliced) in enumerate(zip_longest(inputs, lists[: len(inputs)])):
        where, size = f"inputs[{index}]", _binary_size(sent, index)
        if size is not None:
            binary = tensors[begin : begin + size]
            begin += size
            found.append(SentNumbers(where, sent, binary, iter(()), 0, 0))
        elif sliced is not None and _is_cut(parsed, index):
            pieces = map(_decode_slice, sliced.slices())
            found.append(SentNumbers(where, sent, None, pieces, sliced.values, sliced.parts))
        else:
            data = sent.data or []
            rows = [each for each in data if isinstance(each, list)]
            numbers = len(data) - len(rows) + sum(map(len, rows))
            found.append(SentNumbers(where, sent, None, iter([data]), numbers, 1 + len(rows)))
    _check_behind(begin, tensors, len(inputs))
    return found


def _binary_size(tensor: InferInput, index: int) -> int | None:
    """The bytes of its data behind the JSON; None if they are in it. Raises BadRequest."""
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    if (tensor.data is None) == (size is None):
        found = "neither" if size is None else "both"
        raise BadRequest(
            f"inputs[{index}]: expected either `data` or `parameters.binary_data_size`, found {found}; a "
            f"request is {EXAMPLE}."
        )
    return size


def _check_behind(expected: int, tensors: memoryview, inputs: int = 1) -> None:
    """Raises BadRequest for other than the `expected` bytes of all `inputs` behind the JSON."""
    if expected != len(tensors):
        which = "inputs[0]" if inputs == 1 else "inputs"
        raise BadRequest(
            f"{which}.parameters.binary_data_size: expected {expected} bytes after the JSON, found "
            f"{len(tensors)}; the header Inference-Header-Content-Length says where the JSON ends."
        )


def count_texts(parsed: ParsedInferRequest, max_texts: int) -> int:
    """The number of texts by the shape of the input. Raises BadRequest, RequestTooLarge."""
    inputs = parsed.request.inputs
    if len(inputs) != 1 or inputs[0].name != INPUT:
        found = f"{len(inputs)} inputs" if len(inputs) != 1 else "one with another name"
        raise BadRequest(f"inputs: expected one, named `{INPUT}`, found {found}; a request is {EXAMPLE}.")
    (tensor,) = inputs
    if tensor.datatype != "BYTES":
        found = tensor.datatype if tensor.datatype in DATATYPES else "an unknown datatype"
        raise BadRequest(f"inputs[0].datatype: expected BYTES, found {found}.")
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]):
        raise BadRequest(f"inputs[0].shape: expected [n] or [n, 1] for n texts, found {tensor.shape[:8]}.")
    if tensor.shape[0] > max_texts:
        raise RequestTooLarge(
            f"inputs[0].shape: {tensor.shape[0]} texts in one request; the maximum is {max_texts} "
            "(PRELABEL_MAX_TASKS). Send fewer texts per request."
        )
    return tensor.shape[0]


def read_texts(parsed: ParsedInferRequest, count: int, tensors: memoryview, max_text: int) -> list[str]:
    """The input's `count` texts, from its JSON or from the bytes that follow it. Raises BadRequest, and
    RequestTooLarge for bytes that are more than `max_text` characters.
    """
    (tensor,) = parsed.request.inputs
    _check_behind(_binary_size(tensor, 0) or 0, tensors)
    elements = _elements(tensors, max_text) if tensor.data is None else _flat(tensor.data)
    texts = [*islice(elements, count + 1)]
    _check_number(len(texts), parsed, count)
    return texts


def _check_number(found: int, parsed: ParsedInferRequest, count: int, *, at_most: bool = False) -> None:
    """Raises BadRequest for other than `count` texts, or more."""
    if found > count or (found < count and not at_most):
        shape = parsed.request.inputs[0].shape
        words = "more" if found > count else str(found)
        raise BadRequest(f"inputs[0]: expected {count} texts by its shape {shape}, found {words}.")


def write_answer(
    parsed: ParsedInferRequest,
    model: str,
    version: str,
    labels: Sequence[str],
    probabilities: Floats,
    truncated: int = 0,
) -> tuple[bytes, int | None]:
    """The bytes of the response, and how many of them are JSON (None if all are). `probabilities`
    float32[n, labels], in the order of `labels`; `truncated` counts texts.
    """
    parameters = AnswerParameters(truncated) if truncated else None
    answer = InferAnswer(model, version, [], id=parsed.request.id, parameters=parameters)
    tensors: list[bytes] = []
    for name, binary in parsed.outputs:
        if name == "probabilities":
            output = InferOutput(name, "FP32", list(probabilities.shape))
            data: Any = probabilities.astype("<f4").tobytes() if binary else _json_list(probabilities.ravel())
        else:
            output = InferOutput(name, "BYTES", [len(probabilities)])
            words = [_with_length(label) if binary else msgspec.json.encode(label) for label in labels]
            chosen = [words[best] for best in probabilities.argmax(axis=1).tolist()]
            data = b"".join(chosen) if binary else msgspec.Raw(b"[%b]" % b",".join(chosen))
        if binary:
            output.parameters = OutputDataParameters(len(data))
            tensors.append(data)
        else:
            output.data = data
        answer.outputs.append(output)
    head = msgspec.json.encode(answer)
    return (b"".join([head, *tensors]), len(head)) if tensors else (head, None)


def _outputs(request: InferRequest) -> Iterator[tuple[str, bool]]:
    as_bytes = request.parameters.binary_data_output if request.parameters else False
    if request.id is not None and not _is_unicode(request.id):
        raise BadRequest("id: expected Unicode text, found half of a surrogate pair.")
    wanted = request.outputs or [WantedOutput(name) for name in OUTPUTS]
    if len({each.name for each in wanted}) != len(wanted) or not all(each.name in OUTPUTS for each in wanted):
        raise BadRequest(
            f"outputs: expected {' and '.join(f'`{name}`' for name in OUTPUTS)}, each at most once, "
            "found another name or a repeated one."
        )
    for index, each in enumerate(wanted):
        if each.parameters is not None and each.parameters.classification is not None:
            raise BadRequest(
                f"outputs[{index}].parameters.classification: this extension is not available; request the "
                "output `label`."
            )
        own = each.parameters.binary_data if each.parameters else None
        yield each.name, as_bytes if own is None else own


def _decode_leniently(head: bytearray | bytes, problem: Exception, kind: Any) -> Any:
    """The standard library accepts lone surrogates, which msgspec refuses and texts may have."""
    try:
        return msgspec.convert(decode_leniently(head), kind)
    except msgspec.ValidationError as error:
        raise BadRequest(_in_words(str(error))) from None
    except (ValueError, RecursionError):
        raise BadRequest(f"The body is not JSON: {problem}; a request is {EXAMPLE}.") from None


def _decode_slice(data: bytes) -> Data:
    try:
        check_utf8(data)
        return _data.decode(data)
    except msgspec.ValidationError:
        raise BadRequest("inputs: expected texts or numbers as `data`, found another value.") from None
    except (ValueError, RecursionError) as error:
        found: Data = _decode_leniently(data, error, Data)
        return found


NAMES = {
    "object": "an object",
    "array": "a list",
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "null": "nothing",
}


def _in_words(problem: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.id`" as "id: expected text, found a whole number."."""
    what, _, field = problem.partition(" - at `$")
    field = field.strip(".`")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{f'{field}.' if field else ''}{missing[1]}: missing; a request is {EXAMPLE}."
    words = re.sub(
        r"`([a-z |]+)`",
        lambda found: " or ".join(NAMES.get(kind, kind) for kind in found[1].split(" | ")),
        what,
    )
    words = words.replace(", got ", ", found ")
    return f"{field or 'The body'}: {words[0].lower()}{words[1:]}."


def _elements(data: memoryview, max_text: int) -> Iterator[str]:
    """The elements of a tensor of BYTES. Raises BadRequest for a wrong length and for invalid UTF-8,
    RequestTooLarge for more bytes than `max_text` characters have.
    """
    at, end = 0, len(data)
    while at < end:
        begin = at + 4
        at = begin + struct.unpack_from("<I", data, at)[0] if begin <= end else end + 1
        if at > end:
            raise BadRequest(
                "inputs[0]: expected each text after its length (four bytes, little-endian), found the end "
                "of the data inside a text."
            )
        if at - begin > MAX_UTF8 * max_text:
            raise RequestTooLarge(
                f"inputs[0]: a text has more than {max_text} characters (PRELABEL_MAX_TEXT). "
                "Send it in parts."
            )
        try:
            yield str(data[begin:at], "utf-8")
        except UnicodeDecodeError:
            raise BadRequest("inputs[0]: expected UTF-8, found other bytes.") from None


def _flat(data: Data) -> list[str]:
    """Raises BadRequest for a number."""
    flat: list[Any] = []
    for each in data:
        if isinstance(each, list):
            flat += each
        else:
            flat.append(each)
    if not set(map(type, flat)) <= {str}:
        raise BadRequest("inputs[0].data: expected texts, found another value.")
    return flat


def _json_list(numbers: Floats) -> msgspec.Raw:
    """A JSON list, encoded in chunks."""
    chunks = (
        msgspec.json.encode(numbers[begin : begin + CHUNK].tolist())[1:-1]
        for begin in range(0, len(numbers), CHUNK)
    )
    return msgspec.Raw(b"[%b]" % b",".join(chunks))


def _with_length(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
