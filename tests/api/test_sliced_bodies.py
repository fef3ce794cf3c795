"""Large bodies, which are decoded in slices, mean what they mean in one piece, or are refused as they are."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from server.api.ml_backend_codec import decode_large, decode_tasks, task_data
from server.api.open_inference_codec import read_body
from server.errors import BadRequest, RequestTooLarge
from tests.fuzz.mutate import changed_json, cut
from tests.fuzz.pure import TRANSFORMER

MAX_TASKS, MAX_TEXT = 100, 1_000_000
BODIES = 3_000

DEPTH = 800
"""Brackets that a decoder certainly takes; how many more it takes depends on what the thread does."""

TASKS = [
    {"id": i, "data": {"review": text, "n": [i, 1.5, None]}, "annotations": [], "meta": {}}
    for i, text in enumerate(["good", "b,a]d", '"}', "é\\", "", "😀" * 9])
]
PREDICT = {"tasks": TASKS, "project": "1.1", "label_config": "<View/>", "params": {"login": None}}
TENSOR = {
    "name": "text",
    "shape": [6],
    "datatype": "BYTES",
    "data": ["good", ["b,a]d"], '"}', "é\\", "", "😀"],
}
INFER = {"id": "1", "inputs": [TENSOR], "outputs": [{"name": "label"}]}
NUMBERS = {"name": "input_ids", "shape": [3, 2], "datatype": "INT64", "data": [[1, 2], [3, 4], [5, 6]]}
MASK = {"name": "attention_mask", "shape": [3, 2], "datatype": "INT64", "data": [1, 1, 1, 0, 1, 1]}
TOKENS = {"id": "1", "inputs": [NUMBERS, MASK]}

PARTS = (b",", b", ,", b"]", b"[", b"}", b"{", b'"', b" ", b"\n", b"null", b"NaN", b"\\ud800", b"\\", b"7")
WHOLE_PARTS = (
    *(b'"tasks":[],', b'"tasks":[{"data":1}],', b'"tasks":[1,],', b'"tasks":null,', b'"t\\u0061sks":[{}],'),
    *(b'"data":[],', b'"data":["x"],', b'"data":["x",],', b'"data":null,', b'"d\\u0061ta":["y"],'),
    *(b'"inputs":[],', b'"inputs":[{}],', b'"label_config":7,', b'"shape":[1],'),
)


def predict_in_one_piece(body: bytearray, least: int) -> object:
    fields = decode_tasks(body)
    return read(fields)


def predict_in_slices(body: bytearray, least: int) -> object:
    return read(decode_large(body, MAX_TEXT, 100_000, least))


def read(fields: dict[str, Any]) -> object:
    return [*task_data(fields, MAX_TASKS)], fields.get("label_config"), fields.get("project")


def infer_in_one_piece(body: bytearray, least: int) -> object:
    return infer(body, large=len(body) + 1)


def infer_in_slices(body: bytearray, least: int) -> object:
    return infer(body, large=0, least=least)


def infer(body: bytearray, **options: Any) -> object:
    parsed = read_body(body, len(body), MAX_TASKS, MAX_TEXT, TRANSFORMER, **options)
    return parsed.texts, parsed.outputs, parsed.request.id


def mutated(value: Any, random: Random) -> bytes:
    """`value` as JSON after changes that make it invalid, or another value."""
    match random.randrange(4):
        case 0:
            return cut(json.dumps(value, ensure_ascii=random.random() < 0.5).encode(), random)
        case 1:
            return changed_json(value, random)
        case _:
            body = bytearray(json.dumps(value, indent=random.choice((None, 1))).encode())
            for _ in range(random.choice((1, 1, 2))):
                indices = [at for at, byte in enumerate(body) if byte in b",[]{}"]
                at = random.choice(indices) + random.randrange(2)
                body[at:at] = random.choice((*PARTS, *WHOLE_PARTS))
            return bytes(body)


def outcome(decode: Callable[[bytearray, int], object], body: bytes, least: int) -> str:
    """What a body means; the same for all that are refused."""
    try:
        return repr(decode(bytearray(body), least))  # unlike the value, NaN has an equal
    except BadRequest:
        return "refused"


@pytest.mark.parametrize(
    ("value", "in_one_piece", "in_slices"),
    [
        (PREDICT, predict_in_one_piece, predict_in_slices),
        (INFER, infer_in_one_piece, infer_in_slices),
        (TOKENS, infer_in_one_piece, infer_in_slices),
    ],
    ids=["predict", "infer", "tokens"],
)
def test_a_mutated_body_means_the_same_in_slices(
    value: Any,
    in_one_piece: Callable[[bytearray, int], object],
    in_slices: Callable[[bytearray, int], object],
) -> None:
    accepted = 0
    for seed in range(BODIES):
        random = Random(seed)
        body, least = mutated(value, random), random.choice((1, 1, 20, 100))
        if max(body.count(b"["), body.count(b"{")) > DEPTH:
            continue
        expected = outcome(in_one_piece, body, least)
        assert outcome(in_slices, body, least) == expected, (seed, least, body[:2_000])
        accepted += expected != "refused"
    assert BODIES / 20 < accepted < BODIES * 9 / 10


@pytest.mark.parametrize(
    ("fields", "tasks"),
    [
        (b'"tasks":[1,{"data":2}],"tasks":[]', []),
        (b'"tasks":[],"tasks":[1,{"data":2}]', [None, 2]),
        (b'"tasks":[1],"tasks":null', None),
        (b'"tasks":[1,],"tasks":[]', None),
        (b'"tasks":[{"data":1},{"data":2},]', None),
        (b'"tasks":[{"data":1}, ,{"data":2}]', None),
        (b'"tasks":[{"id":9%b}]' % (b"9" * 4_301), [None]),
        (b'"tasks":[{"\xff":1}]', None),
    ],
)
def test_the_last_of_two_fields_counts_and_both_are_checked(fields: bytes, tasks: Any) -> None:
    body = b'{%b,"label_config":"<View/>"}' % fields
    expected = "refused" if tasks is None else repr((tasks, "<View/>", None))
    assert outcome(predict_in_one_piece, body, 1) == expected
    assert outcome(predict_in_slices, body, 1) == expected


def test_other_encodings_are_refused() -> None:
    for encoding in ("utf-16", "utf-8-sig"):
        assert outcome(infer_in_one_piece, json.dumps(INFER).encode(encoding), 1) == "refused"
        assert outcome(infer_in_slices, json.dumps(INFER).encode(encoding), 1) == "refused"


def test_too_many_tasks_are_refused_before_they_are_decoded() -> None:
    """Also those of a first field that a second one of the same name replaces."""
    many = b",".join([b"nonsense"] * 200)
    with pytest.raises(RequestTooLarge, match="tasks: 200 in one request; the maximum is 100"):
        decode_large(bytearray(b'{"tasks":[%b],"tasks":[]}' % many), MAX_TEXT, MAX_TASKS)
