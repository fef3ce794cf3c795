"""The Open Inference Protocol, version 2, for a text classifier: a request's bytes → texts, probabilities →
an answer's bytes. Pure.

One input, `text`, BYTES [n] or [n, 1]; two outputs, `probabilities`, FP32 [n, labels], and `label`, BYTES
[n]. A tensor's data are JSON or, with the extension "binary_tensor_data", lie behind the JSON as bytes:
numbers little-endian, each element of BYTES behind its length in four bytes.
"""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.arrays import Floats
from server.errors import BadRequest, RequestTooLarge

INPUT = "text"
OUTPUTS = ("probabilities", "label")
EXTENSIONS = ("binary_tensor_data",)
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
"""The header that says how many of a body's bytes are JSON."""

EXAMPLE = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["…"]}]}'

PIECE = 2_000
"""Numbers that are written at a time: a tenth of a millisecond."""

Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class InputParameters(msgspec.Struct):
    binary_data_size: Annotated[
        Size | None, Meta(description="Bytes behind the JSON that are this tensor's, in place of `data`.")
    ] = None


class InferInput(msgspec.Struct):
    """A tensor that is sent; of BYTES, each element is a text in UTF-8."""

    name: Annotated[str, Meta(extra_json_schema={"const": INPUT})]
    datatype: Annotated[str, Meta(extra_json_schema={"const": "BYTES"})]
    shape: Annotated[list[Size], Meta(extra_json_schema={"minItems": 1, "maxItems": 2})]
    data: Annotated[list[str | list[str]] | None, Meta(description="As many texts as the shape says.")] = None
    parameters: InputParameters | None = None


class OutputParameters(msgspec.Struct):
    binary_data: Annotated[
        bool | None,
        Meta(description="Whether this tensor comes behind the JSON; else as `binary_data_output` says."),
    ] = None
    classification: Any = None


class WantedOutput(msgspec.Struct):
    """A tensor that is asked for."""

    name: Annotated[str, Meta(extra_json_schema={"enum": list(OUTPUTS)})]
    parameters: OutputParameters | None = None


class RequestParameters(msgspec.Struct):
    binary_data_output: Annotated[bool, Meta(description="Whether tensors come behind the JSON.")] = False


class InferRequest(msgspec.Struct):
    """What is asked. Other fields and parameters are passed over."""

    inputs: Annotated[list[InferInput], Meta(extra_json_schema={"minItems": 1, "maxItems": 1})]
    id: Annotated[str | None, Meta(description="Comes back in the answer.")] = None
    outputs: Annotated[list[WantedOutput] | None, Meta(description="All where none are named.")] = None
    parameters: RequestParameters | None = None


class AnsweredParameters(msgspec.Struct):
    binary_data_size: int


class InferOutput(msgspec.Struct, omit_defaults=True):
    """A tensor that is answered, its data here or behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float | str] | None = None
    parameters: AnsweredParameters | None = None


class InferAnswer(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[InferOutput]
    id: str | None = None


@dataclass(frozen=True)
class ParsedInferRequest:
    """`outputs` are pairs of a name and whether its tensor is wanted as bytes; `texts` are the input's."""

    request: InferRequest
    outputs: tuple[tuple[str, bool], ...]
    texts: list[str] = field(default_factory=list)


_request = msgspec.json.Decoder(InferRequest)


def header_length(told: str | None, body: int) -> int:
    """How many of the body's bytes are JSON: what the header `told` says, else all. Raises BadRequest."""
    if told is None:
        return body
    if not (told.isascii() and told.isdecimal()) or int(told[:20]) > body:
        raise BadRequest(
            f"Inference-Header-Content-Length: expected the bytes of the body that are JSON, at most {body}."
        )
    return int(told[:20])


def read_request(head: bytearray) -> ParsedInferRequest:
    """The JSON of a request. Raises BadRequest, which names the field."""
    try:
        request = _request.decode(head)
    except msgspec.ValidationError as error:
        raise BadRequest(_in_words(str(error))) from None
    except (ValueError, RecursionError) as error:
        request = _by_the_library(head, error)
    return ParsedInferRequest(request, tuple(_outputs(request)))


def count_texts(asked: ParsedInferRequest, most: int) -> int:
    """How many texts the input is said to have. Raises BadRequest where it is not the one that is expected,
    RequestTooLarge.
    """
    inputs = asked.request.inputs
    if len(inputs) != 1 or inputs[0].name != INPUT:
        found = f"{len(inputs)} inputs" if len(inputs) != 1 else "one of another name"
        raise BadRequest(f"inputs: expected one, named `{INPUT}`, found {found}; a request is {EXAMPLE}.")
    (tensor,) = inputs
    if tensor.datatype != "BYTES":
        found = tensor.datatype if tensor.datatype in DATATYPES else "none that there is"
        raise BadRequest(f"inputs[0].datatype: expected BYTES, found {found}.")
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]):
        raise BadRequest(f"inputs[0].shape: expected [n] or [n, 1] for n texts, found {tensor.shape[:8]}.")
    if tensor.shape[0] > most:
        raise RequestTooLarge(
            f"inputs[0].shape: {tensor.shape[0]} texts in one request; the limit is {most} "
            "(PRELABEL_MAX_TASKS). Send fewer at once."
        )
    return tensor.shape[0]


def read_texts(asked: ParsedInferRequest, count: int, behind: memoryview) -> list[str]:
    """The input's `count` texts, out of its JSON or out of what lies `behind` it. Raises BadRequest."""
    (tensor,) = asked.request.inputs
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    if (tensor.data is None) == (size is None):
        found = "neither" if size is None else "both"
        raise BadRequest(
            f"inputs[0]: expected either `data` or `parameters.binary_data_size`, found {found}; a "
            f"request is {EXAMPLE}."
        )
    if (size or 0) != len(behind):
        raise BadRequest(
            f"inputs[0].parameters.binary_data_size: {size or 0} bytes are said to lie behind the JSON, "
            f"where {len(behind)} are; "
            "the header Inference-Header-Content-Length says where the JSON ends."
        )
    texts = list(_elements(behind)) if tensor.data is None else _flat(tensor.data)
    if len(texts) != count:
        raise BadRequest(
            f"inputs[0]: its shape {tensor.shape} says {count} texts, and {len(texts)} are there."
        )
    return texts


def write_answer(
    asked: ParsedInferRequest, model: str, version: str, labels: Sequence[str], probabilities: Floats
) -> tuple[bytes, int | None]:
    """The answer's bytes and, where not all of them are JSON, how many are. `probabilities` float32[n,
    labels], in `labels`' order.
    """
    answer = InferAnswer(model, version, [], id=asked.request.id)
    behind: list[bytes] = []
    for name, binary in asked.outputs:
        if name == "probabilities":
            output = InferOutput(name, "FP32", list(probabilities.shape))
            data: Any = probabilities.astype("<f4").tobytes() if binary else _json_list(probabilities.ravel())
        else:
            output = InferOutput(name, "BYTES", [len(probabilities)])
            words = [_with_length(label) if binary else msgspec.json.encode(label) for label in labels]
            chosen = [words[best] for best in probabilities.argmax(axis=1).tolist()]
            data = b"".join(chosen) if binary else msgspec.Raw(b"[%b]" % b",".join(chosen))
        if binary:
            output.parameters = AnsweredParameters(len(data))
            behind.append(data)
        else:
            output.data = data
        answer.outputs.append(output)
    head = msgspec.json.encode(answer)
    return (b"".join([head, *behind]), len(head)) if behind else (head, None)


def _outputs(request: InferRequest) -> Iterator[tuple[str, bool]]:
    usual = request.parameters.binary_data_output if request.parameters else False
    if request.id is not None and not _is_unicode(request.id):
        raise BadRequest("id: expected text, found half of a surrogate pair in it.")
    wanted = request.outputs or [WantedOutput(name) for name in OUTPUTS]
    if len({each.name for each in wanted}) != len(wanted) or not all(each.name in OUTPUTS for each in wanted):
        raise BadRequest(
            f"outputs: expected {' and '.join(f'`{name}`' for name in OUTPUTS)}, each once at most, "
            "found another name or one twice."
        )
    for place, each in enumerate(wanted):
        if each.parameters is not None and each.parameters.classification is not None:
            raise BadRequest(
                f"outputs[{place}].parameters.classification: there is no such extension here; ask for "
                "the output `label`."
            )
        told = each.parameters.binary_data if each.parameters else None
        yield each.name, usual if told is None else told


def _by_the_library(head: bytearray, problem: Exception) -> InferRequest:
    """Lone surrogates are beyond msgspec, and texts may have them."""
    try:
        return msgspec.convert(json.loads(head), InferRequest)
    except msgspec.ValidationError as error:
        raise BadRequest(_in_words(str(error))) from None
    except (ValueError, RecursionError):
        raise BadRequest(f"The body is not JSON: {problem}; a request is {EXAMPLE}.") from None


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
    what, _, place = problem.partition(" - at `$")
    place = place.strip(".`")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{f'{place}.' if place else ''}{missing[1]}: missing; a request is {EXAMPLE}."
    words = re.sub(
        r"`([a-z |]+)`",
        lambda found: " or ".join(NAMES.get(kind, kind) for kind in found[1].split(" | ")),
        what,
    )
    words = words.replace(", got ", ", found ")
    return f"{place or 'The body'}: {words[0].lower()}{words[1:]}."


def _elements(data: memoryview) -> Iterator[str]:
    """The elements of a tensor of BYTES. Raises BadRequest for a length that leads beyond the end, and for
    what is no UTF-8.
    """
    at, end = 0, len(data)
    while at < end:
        begin = at + 4
        at = begin + struct.unpack_from("<I", data, at)[0] if begin <= end else end + 1
        if at > end:
            raise BadRequest(
                "inputs[0]: expected each text behind its length, in four bytes, little-endian, found "
                "the end before a text's."
            )
        try:
            yield str(data[begin:at], "utf-8")
        except UnicodeDecodeError:
            raise BadRequest("inputs[0]: expected UTF-8, found bytes that are none.") from None


def _flat(data: Sequence[str | list[str]]) -> list[str]:
    flat: list[str] = []
    for each in data:
        if isinstance(each, str):
            flat.append(each)
        else:
            flat += each
    return flat


def _json_list(numbers: Floats) -> msgspec.Raw:
    """A list, written a piece at a time: no call into msgspec or NumPy keeps other threads waiting for long."""
    pieces = (
        msgspec.json.encode(numbers[begin : begin + PIECE].tolist())[1:-1]
        for begin in range(0, len(numbers), PIECE)
    )
    return msgspec.Raw(b"[%b]" % b",".join(pieces))


def _with_length(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
