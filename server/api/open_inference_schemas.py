"""Endpoints of the Open Inference Protocol, with their request and response types."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.api.endpoints import BODY_ERRORS, INFERENCE_ERRORS, Endpoint
from server.errors import NotServed

INPUT = "text"
TOKEN_INPUTS = ("input_ids", "attention_mask")
"""Instead of `text`, for a model that is a single transformer; the second may be missing."""
OUTPUTS = ("probabilities", "label")
EXTENSIONS = ("binary_tensor_data",)

Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]


Data = list[str | int | list[str | int]]
"""The texts of a tensor, [n] or [n, 1]; or its token ids or its mask, [n, tokens], flat or as lists."""


class InputParameters(msgspec.Struct):
    binary_data_size: Annotated[
        Size | None, Meta(description="Bytes of this tensor after the JSON; replaces `data`.")
    ] = None


class InferInput(msgspec.Struct):
    """An input tensor. Each element of `text` is a text in UTF-8. A model that is a single transformer takes
    `input_ids` and `attention_mask` instead: the ids of its tokenizer, INT64 or INT32, and 1 for each of a
    row that counts, then 0. Without the mask all of them count.
    """

    name: Annotated[str, Meta(extra_json_schema={"enum": [INPUT, *TOKEN_INPUTS]})]
    datatype: Annotated[str, Meta(extra_json_schema={"enum": ["BYTES", "INT64", "INT32"]})]
    shape: Annotated[list[Size], Meta(extra_json_schema={"minItems": 1, "maxItems": 2})]
    data: Annotated[Data | None, Meta(description="The elements, as many as the shape says.")] = None
    parameters: InputParameters | None = None


class OutputParameters(msgspec.Struct):
    binary_data: Annotated[
        bool | None,
        Meta(
            description="Whether this tensor follows the JSON as bytes; by default as `binary_data_output`."
        ),
    ] = None
    classification: Any = None


class WantedOutput(msgspec.Struct):
    """A requested output tensor."""

    name: Annotated[str, Meta(extra_json_schema={"enum": list(OUTPUTS)})]
    parameters: OutputParameters | None = None


class RequestParameters(msgspec.Struct):
    binary_data_output: Annotated[
        bool, Meta(description="Whether output tensors follow the JSON as bytes.")
    ] = False


class InferRequest(msgspec.Struct):
    """Other fields and parameters are ignored."""

    inputs: Annotated[list[InferInput], Meta(extra_json_schema={"minItems": 1, "maxItems": 2})]
    id: Annotated[str | None, Meta(description="Returned in the response.")] = None
    outputs: Annotated[list[WantedOutput] | None, Meta(description="All outputs by default.")] = None
    parameters: RequestParameters | None = None


class OutputDataParameters(msgspec.Struct):
    binary_data_size: int


class InferOutput(msgspec.Struct, omit_defaults=True):
    """An output tensor; its data are here or follow the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float | str] | None = None
    parameters: OutputDataParameters | None = None


class AnswerParameters(msgspec.Struct):
    truncated: Annotated[
        int, Meta(description="Texts that were longer than the model reads, and were truncated.")
    ]


class InferAnswer(msgspec.Struct, omit_defaults=True):
    """Without `parameters`, no text was truncated."""

    model_name: str
    model_version: str
    outputs: list[InferOutput]
    id: str | None = None
    parameters: AnswerParameters | None = None


class ServerMetadata(msgspec.Struct):
    name: str
    version: str
    extensions: tuple[str, ...]


class ServerLive(msgspec.Struct, omit_defaults=True):
    """`error` is the reason if not live."""

    live: bool
    error: str | None = None


class ServerReady(msgspec.Struct, omit_defaults=True):
    """`error` is the reason if not ready."""

    ready: bool
    error: str | None = None


class ModelReady(msgspec.Struct, omit_defaults=True):
    """`error` is the reason if not ready."""

    name: str
    ready: bool
    error: str | None = None


class TensorParameters(msgspec.Struct):
    labels: Annotated[tuple[str, ...], Meta(description="The label of each column of the tensor.")]


class Tensor(msgspec.Struct, omit_defaults=True):
    """-1 in `shape` stands for the number of texts."""

    name: str
    datatype: str
    shape: list[int]
    parameters: TensorParameters | None = None


class TokenTensorParameters(msgspec.Struct):
    optional: bool
    max_length: Annotated[int, Meta(description="The most tokens of a row.")]
    vocabulary: Annotated[int | None, Meta(description="Token ids are below this.")] = None


class TokenTensor(msgspec.Struct):
    """-1 in `shape` stands for the number of texts, and for the tokens of the longest one. INT32 is taken,
    too.
    """

    name: str
    datatype: str
    shape: list[int]
    parameters: TokenTensorParameters


class TextTensorParameters(msgspec.Struct):
    alternative: Annotated[
        list[TokenTensor], Meta(description="The inputs that may be sent instead of this one.")
    ]


class TextTensor(msgspec.Struct, omit_defaults=True):
    """-1 in `shape` stands for the number of texts."""

    name: str
    datatype: str
    shape: list[int]
    parameters: TextTensorParameters | None = None


class ModelMetadata(msgspec.Struct):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TextTensor]
    outputs: list[Tensor]


SERVER = Endpoint("GET", "/v2", "caller", "The server and its extensions", ServerMetadata)
LIVE = Endpoint(
    "GET",
    "/v2/health/live",
    "health",
    "Whether the server responds",
    ServerLive,
    other_responses={503: ServerLive},
)
READY = Endpoint(
    "GET",
    "/v2/health/ready",
    "health",
    "Whether all models answer",
    ServerReady,
    other_responses={503: ServerReady},
)
MODEL = Endpoint(
    "GET", "/v2/models/{name}", "caller", "A model's inputs and outputs", ModelMetadata, errors=(NotServed,)
)
MODEL_READY = Endpoint(
    "GET",
    "/v2/models/{name}/ready",
    "health",
    "Whether this model answers",
    ModelReady,
    errors=(NotServed,),
    other_responses={503: ModelReady},
)
INFER = Endpoint(
    "POST",
    "/v2/models/{name}/infer",
    "caller",
    "Texts, or token ids, to probabilities and labels",
    InferAnswer,
    request_type=InferRequest,
    example={
        "id": "1",
        "inputs": [{"name": INPUT, "shape": [2], "datatype": "BYTES", "data": ["A fine film.", "Dull."]}],
    },
    errors=(NotServed, *BODY_ERRORS, *INFERENCE_ERRORS),
    binary_tensors=True,
)
