"""The Open Inference Protocol's bytes, without a server: texts come out as they went in, and an error names
the field.
"""

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.api.open_inference_codec import (
    count_texts,
    header_length,
    read_body,
    read_request,
    read_texts,
    write_answer,
)
from server.errors import BadRequest, RequestTooLarge
from server.transport.json_slices import warm_up

TENSOR: dict[str, Any] = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}


def body(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{name: value for name, value in (TENSOR | changes).items() if value is not None}]}


def texts_of(request: object, behind: bytes = b"", most: int = 100) -> list[str]:
    parsed = read_request(bytearray(json.dumps(request).encode()))
    return read_texts(parsed, count_texts(parsed, most), memoryview(behind), 1_000)


def as_bytes(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def bytes_body(size: object, *texts: str) -> dict[str, Any]:
    return body(shape=[len(texts)], data=None, parameters={"binary_data_size": size})


@given(st.lists(st.text(), max_size=5))
@example(["", "\0", "é\r\n", "😀"])
def test_texts_come_out_as_they_went_in(texts: list[str]) -> None:
    behind = as_bytes(texts)
    assert texts_of(body(shape=[len(texts)], data=texts)) == texts
    assert texts_of(body(shape=[len(texts), 1], data=[[text] for text in texts])) == texts
    assert texts_of(body(shape=[len(texts), 1], data=texts)) == texts
    assert texts_of(bytes_body(len(behind), *texts), behind) == texts


def test_half_of_a_surrogate_pair_is_taken_in_a_text_as_label_studios_are() -> None:
    assert texts_of(body(data=["\ud800"])) == ["\ud800"]


def test_what_is_not_known_is_passed_over() -> None:
    request = body(parameters={"sequence_id": 7, "other": [{}]}) | {
        "parameters": {"priority": 3, "x": None},
        "more": 1,
        "outputs": [],
        "id": "",
    }
    assert texts_of(request) == ["good"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ([], "The body: expected an object, found a list"),
        ({}, "inputs: missing; a request is"),
        ({"inputs": []}, "inputs: expected one, named `text`, found 0 inputs"),
        ({"inputs": [TENSOR, TENSOR]}, "found 2 inputs"),
        (body(name="review"), "inputs: expected one, named `text`, found one with another name"),
        (body(name=None), r"inputs\[0\].name: missing"),
        (body(datatype="FP32"), r"inputs\[0\].datatype: expected BYTES, found FP32"),
        (body(datatype="a secret"), r"inputs\[0\].datatype: expected BYTES, found an unknown datatype"),
        (body(shape=[]), r"inputs\[0\].shape: expected \[n\] or \[n, 1\] for n texts, found \[\]"),
        (body(shape=[1, 2]), r"found \[1, 2\]"),
        (body(shape=[1, 1, 1]), r"found \[1, 1, 1\]"),
        (body(shape=[-1]), r"inputs\[0\].shape\[0\]: expected a whole number >= 0"),
        (body(shape=[2**64]), r"inputs\[0\].shape\[0\]: "),
        (body(shape=[2]), r"inputs\[0\]: expected 2 texts by its shape \[2\], found 1"),
        (body(data=[["a", "b"]]), "expected 1 texts by its shape \\[1\\], found more"),
        (body(data="good"), r"inputs\[0\].data: expected a list or nothing, found text"),
        (body(data=["good", 7]), r"inputs\[0\].data: expected texts, found another value"),
        (
            body(data=[["good", None]]),
            r"inputs\[0\].data\[0\]\[1\]: expected a whole number or text, found nothing",
        ),
        (
            body(data=None),
            r"inputs\[0\]: expected either `data` or `parameters.binary_data_size`, found neither",
        ),
        (body(parameters={"binary_data_size": 4}), r"found both"),
        (
            body(data=None, parameters={"binary_data_size": "4"}),
            r"inputs\[0\].parameters.binary_data_size: expected a whole number or nothing, found text",
        ),
        (bytes_body(4, ""), "expected 4 bytes after the JSON, found 0"),
        (body() | {"id": 7}, "id: expected text or nothing, found a whole number"),
        (body() | {"id": "\ud800"}, "id: expected Unicode text, found half of a surrogate pair"),
        (
            body() | {"outputs": [{"name": "logits"}]},
            "outputs: expected `probabilities` and `label`, each at most once",
        ),
        (body() | {"outputs": [{"name": "label"}, {"name": "label"}]}, "each at most once"),
        (
            body() | {"outputs": [{"name": "label", "parameters": {"classification": 2}}]},
            r"outputs\[0\].parameters.classification: this extension is not available",
        ),
        (
            body() | {"parameters": {"binary_data_output": "yes"}},
            "parameters.binary_data_output: expected true or false, found text",
        ),
    ],
)
def test_an_error_names_the_field(request_: object, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as raised:
        texts_of(request_)
    assert "a secret" not in str(raised.value)


@pytest.mark.parametrize(
    "head", [b"", b"x", b"{", b"[" * 100_000, b'{"inputs": [NaN', b"\xff", b'{"a": ' + b"[" * 100_000]
)
def test_what_is_no_json_is_refused(head: bytes) -> None:
    with pytest.raises(BadRequest, match="The body"):
        read_request(bytearray(head))


@pytest.mark.parametrize(
    ("behind", "texts", "words"),
    [
        (b"\1\0\0", 1, "found the end of the data inside a text"),
        (b"\5\0\0\0good", 1, "found the end of the data inside a text"),
        (b"\xff\xff\xff\xffgood", 1, "found the end of the data inside a text"),
        (b"\4\0\0\0good\1", 1, "found the end of the data inside a text"),
        (b"\4\0\0\0good", 2, r"expected 2 texts by its shape \[2\], found 1"),
        (as_bytes(["a", "b", "c"]), 2, r"expected 2 texts by its shape \[2\], found more"),
        (b"\2\0\0\0\xc3\x28", 1, "expected UTF-8"),
    ],
)
def test_bytes_lead_nowhere_but_to_their_end(behind: bytes, texts: int, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        texts_of(bytes_body(len(behind), *[""] * texts), behind)


def test_unexpected_bytes_after_the_json_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"expected 0 bytes after the JSON, found 4"):
        texts_of(body(), b"good")


def test_more_texts_than_the_limit_are_refused_by_their_shape() -> None:
    with pytest.raises(
        RequestTooLarge,
        match=r"inputs\[0\].shape: 3 texts in one request; the maximum is 2 \(PRELABEL_MAX_TASKS\)",
    ):
        texts_of(body(shape=[3]), most=2)


def test_where_the_json_ends() -> None:
    assert header_length(None, 7) == header_length("7", 7) == 7
    assert header_length("0", 7) == 0
    for header in ("8", "-1", "", "x", "1.0", "²", "9" * 5_000, " 1"):
        with pytest.raises(BadRequest, match=r"Inference-Header-Content-Length: .* at most 7"):
            header_length(header, 7)


PROBABILITIES = np.array([[0.25, 0.75], [0.5, 0.5], [1, 0]], dtype=np.float32)
LABELS = ("no", "ganz schön")


def answered(**request: Any) -> tuple[Any, bytes]:
    found, size = write_answer(
        read_request(bytearray(json.dumps(body() | request).encode())), "m", "m-1", LABELS, PROBABILITIES
    )
    size = len(found) if size is None else size
    return json.loads(found[:size]), found[size:]


def test_an_answer_in_json() -> None:
    assert answered(id="7") == (
        {
            "model_name": "m",
            "model_version": "m-1",
            "id": "7",
            "outputs": [
                {
                    "name": "probabilities",
                    "datatype": "FP32",
                    "shape": [3, 2],
                    "data": [0.25, 0.75, 0.5, 0.5, 1.0, 0.0],
                },
                {"name": "label", "datatype": "BYTES", "shape": [3], "data": ["ganz schön", "no", "no"]},
            ],
        },
        b"",
    )


def test_a_response_has_the_requested_outputs_in_the_requested_form() -> None:
    head, behind = answered(
        outputs=[{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}],
        parameters={"binary_data_output": True},
    )
    assert head["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [3], "data": ["ganz schön", "no", "no"]},
        {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [3, 2],
            "parameters": {"binary_data_size": 24},
        },
    ]
    assert behind == PROBABILITIES.tobytes()
    head, behind = answered(outputs=[{"name": "label", "parameters": {"binary_data": True}}])
    assert (head["outputs"][0]["parameters"]["binary_data_size"], behind) == (
        len(behind),
        as_bytes(["ganz schön", "no", "no"]),
    )


def test_bytes_that_are_more_than_a_text_may_have_are_refused_before_they_are_decoded() -> None:
    too_long = struct.pack("<I", 5) + b"\xff" * 5
    parsed = read_request(bytearray(json.dumps(bytes_body(len(too_long), "")).encode()))
    with pytest.raises(RequestTooLarge, match=r"inputs\[0\]: a text has more than 1 characters"):
        read_texts(parsed, 1, memoryview(too_long), 1)


@pytest.mark.parametrize("element", [b"[]", b'"ab"', b'["ab"]', b'["","",""]'])
def test_no_more_texts_are_read_than_the_shape_says(element: bytes) -> None:
    data = b",".join([element] * 200_000)
    body = b'{"inputs":[{"name":"text","shape":[1000],"datatype":"BYTES","data":[%b]}]}' % data
    warm_up()  # compiling takes memory
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match=r"expected 1000 texts by its shape \[1000\], found more"):
            read_body(bytearray(body), len(body), 50_000, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()


def test_no_more_bytes_are_read_than_the_shape_says() -> None:
    behind = as_bytes(["ab"] * 200_000)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "text",
                    "shape": [1000],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(behind)},
                }
            ]
        }
    ).encode()
    sent = bytearray(head + behind)
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match="found more"):
            read_body(sent, len(head), 50_000, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < len(behind)
    finally:
        tracemalloc.stop()
