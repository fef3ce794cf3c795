"""Token ids instead of texts, without a server: rows come out as they went in, an error names the field."""

import json
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.open_inference_codec import read_body
from server.encoders.transformer.encoder import TransformerEncoder
from server.errors import BadRequest, RequestTooLarge
from server.prediction.token_rows import TokenRows
from server.transport.json_slices import warm_up
from tests.fuzz.pure import TRANSFORMER

IDS: list[list[int]] = [[0, 7, 2, 1], [0, 99, 8, 2]]
MASK: list[list[int]] = [[1, 1, 1, 0], [1, 1, 1, 1]]


def tensor(name: str, rows: Any, datatype: str = "INT64", **changes: Any) -> dict[str, Any]:
    made = {"name": name, "datatype": datatype, "shape": [len(rows), len(rows[0])], "data": rows} | changes
    return {name: value for name, value in made.items() if value is not None}


def ids(rows: Any = IDS, **changes: Any) -> dict[str, Any]:
    return tensor("input_ids", rows, **changes)


def mask(rows: Any = MASK, **changes: Any) -> dict[str, Any]:
    return tensor("attention_mask", rows, **changes)


def read(
    *inputs: dict[str, Any],
    behind: bytes = b"",
    transformer: TransformerEncoder | None = TRANSFORMER,
    large: int = 10**9,
    least: int = 1,
) -> TokenRows:
    head = json.dumps({"inputs": inputs}).encode()
    body = bytearray(head + behind)
    tokens = read_body(body, len(head), 100, 1_000, transformer, large=large, least=least).texts
    assert isinstance(tokens, TokenRows)
    return tokens


def lists(tokens: TokenRows) -> list[list[int]]:
    assert all(row.dtype == np.int32 for row in tokens.rows)
    return [row.tolist() for row in tokens.rows]


def flat(rows: list[list[int]]) -> list[int]:
    return [each for row in rows for each in row]


def as_bytes(rows: list[list[int]], datatype: str) -> bytes:
    dtype: npt.DTypeLike = {"INT64": "<i8", "INT32": "<i4"}[datatype]
    return np.array(rows, dtype=dtype).tobytes()


@st.composite
def rows_and_lengths(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    width = draw(st.integers(1, 8))
    row = st.lists(st.integers(0, 99), min_size=width, max_size=width)
    rows = draw(st.lists(row, min_size=1, max_size=6))
    return rows, [draw(st.integers(1, width)) for _ in rows]


@given(
    rows_and_lengths(),
    st.sampled_from(["INT64", "INT32"]),
    st.sampled_from(["flat", "lists", "bytes"]),
    st.sampled_from(["flat", "lists", "bytes"]),
    st.booleans(),
    st.integers(0, 1),
    st.integers(1, 30),
)
def test_rows_come_out_as_they_went_in(
    rows_lengths: tuple[list[list[int]], list[int]],
    datatype: str,
    form: str,
    form_of_mask: str,
    mask_first: bool,
    large: int,
    least: int,
) -> None:
    rows, lengths = rows_lengths
    ones = [[1] * length + [0] * (len(row) - length) for row, length in zip(rows, lengths, strict=True)]
    inputs, behind = [], b""
    sent = [("input_ids", rows, form), ("attention_mask", ones, form_of_mask)]
    for name, numbers, how in reversed(sent) if mask_first else sent:
        if how == "bytes":
            data = as_bytes(numbers, datatype)
            parameters = {"binary_data_size": len(data)}
            inputs.append(tensor(name, numbers, datatype, data=None, parameters=parameters))
            behind += data
        else:
            data_of_json = flat(numbers) if how == "flat" else numbers
            inputs.append(tensor(name, numbers, datatype) | {"data": data_of_json})
    found = read(*inputs, behind=behind, large=0 if large else 10**9, least=least)
    expected = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    assert lists(found) == expected
    assert (found.longest, found.largest) == (max(lengths), max(flat(rows)))


def test_without_a_mask_all_tokens_count() -> None:
    assert lists(read(ids())) == IDS
    assert lists(read(ids(), large=0)) == IDS


@pytest.mark.parametrize("large", [0, 10**9])
def test_no_rows(large: int) -> None:
    for width in (0, 3):
        found = read(ids(data=[], shape=[0, width]), mask(data=[], shape=[0, width]), large=large)
        assert (len(found), found.longest, found.largest) == (0, 0, 0)
    nothing = {"data": None, "parameters": {"binary_data_size": 0}, "shape": [0, 3]}
    assert len(read(ids(**nothing), large=large)) == 0


WRONG: list[tuple[list[dict[str, Any]], str]] = [
    ([mask()], "inputs: expected `text`, or `input_ids` with or without `attention_mask`"),
    ([ids(), ids()], "found another name or a repeated one"),
    ([ids(), tensor("token_type_ids", MASK)], "found another name or a repeated one"),
    ([ids(), mask(), mask()], "inputs: expected `input_ids` and `attention_mask`, found 3 inputs"),
    ([ids(datatype="FP32")], r"inputs\[0\].datatype: expected INT64 or INT32"),
    ([ids(), mask(datatype="BOOL")], r"inputs\[1\].datatype: expected INT64 or INT32"),
    ([ids(shape=[8])], r"inputs\[0\].shape: expected \[n, tokens\] .* found \[8\]"),
    ([ids(shape=[2, 2, 2])], r"inputs\[0\].shape: expected \[n, tokens\]"),
    ([ids(shape=[8, 0])], r"inputs\[0\].shape: .* with at least one token"),
    ([mask(), ids([[1] * 9])], r"inputs\[1\].shape: rows of 9 tokens; the model reads at most 8\. .* `text`"),
    ([ids(), mask([[1] * 5] * 2)], r"inputs\[1\].shape: expected that of the other input, \[2, 4\]"),
    ([ids(shape=[3, 4])], r"inputs\[0\].data: expected 12 numbers by its shape \[3, 4\], .* found 8"),
    ([ids(shape=[1, 4])], r"inputs\[0\].data: expected 4 numbers .* found 8"),
    ([ids([[1], [2]], shape=[1, 2])], r"expected 2 numbers .* found 2 in 3 lists"),
    ([ids([[1, 2, 3], [4]], shape=[2, 2])], r"inputs\[0\].data: expected 2 numbers in each list"),
    ([ids([[1, 2], 3, 4], shape=[2, 2])], r"expected 4 numbers .* found 4 in 2 lists"),
    ([ids([["1", 2]], shape=[1, 2])], r"inputs\[0\].data: expected whole numbers, found another value"),
    ([ids([[0, 100]])], r"inputs\[0\].data: expected token ids from 0 to 99, found another number"),
    ([ids([[0, -1]])], r"inputs\[0\].data: expected token ids from 0 to 99"),
    ([ids([[0, 2**80]])], "inputs"),
    ([ids([[0, 1.5]])], "inputs"),
    ([ids([[0, True]])], "inputs"),
    ([ids(), mask([[1, 1, 1, 2], [1, 1, 1, 1]])], r"inputs\[1\].data: expected 0 or 1"),
    ([ids(), mask([[1, 1, 1, 1], [1, 0, 1, 1]])], r"inputs\[1\].data: .* a one after a zero in row 1; fill"),
    ([ids(), mask([[1, 1, 1, 1], [0, 0, 0, 0]])], r"inputs\[1\].data: .* found none in row 1"),
    (
        [ids(data=None)],
        r"inputs\[0\]: expected either `data` or `parameters.binary_data_size`, found neither",
    ),
    ([ids(), mask(parameters={"binary_data_size": 64})], r"inputs\[1\]: .* found both"),
]


@pytest.mark.parametrize("large", [0, 10**9], ids=["in slices", "in one piece"])
@pytest.mark.parametrize(("inputs", "words"), WRONG, ids=range(len(WRONG)))
def test_an_error_names_the_field(inputs: list[dict[str, Any]], words: str, large: int) -> None:
    with pytest.raises(BadRequest, match=words):
        read(*inputs, large=large)


def test_errors_of_binary_data() -> None:
    right = as_bytes(IDS, "INT64")
    of_32_bytes = ids(data=None, parameters={"binary_data_size": 32})
    with pytest.raises(BadRequest, match=r"inputs\[0\].*: expected 64 bytes by its shape \[2, 4\] and INT64"):
        read(of_32_bytes, behind=right[:32])
    of_64_bytes = ids(data=None, parameters={"binary_data_size": 64})
    for behind in (right[:-1], right + b"\0"):
        with pytest.raises(BadRequest, match="expected 64 bytes after the JSON"):
            read(of_64_bytes, behind=behind)
    for number in (-1, 100, 2**62):
        with pytest.raises(BadRequest, match="expected token ids from 0 to 99"):
            read(of_64_bytes, behind=as_bytes([[0, 0, 0, number]] * 2, "INT64"))


def test_more_rows_than_the_limit_are_refused_by_their_shape() -> None:
    with pytest.raises(RequestTooLarge, match=r"inputs\[0\].shape: 101 texts .* 100 \(PRELABEL_MAX_TASKS\)"):
        read(ids(shape=[101, 4]))


def test_a_model_that_is_no_transformer_takes_texts() -> None:
    with pytest.raises(
        BadRequest, match="inputs: this model takes `text`; token ids are for a model that is"
    ):
        read(ids(), transformer=None)


@pytest.mark.parametrize("element", ["1", "[]", "[1]", "[[[[1]]]]", '"a"', "{}"])
def test_nothing_is_decoded_that_is_not_as_much_as_the_shape_says(element: str) -> None:
    data = ",".join([element] * 400_000)
    head = (
        f'{{"inputs":[{{"name":"input_ids","shape":[100,8],"datatype":"INT64","data":[{data}]}}]}}'.encode()
    )
    warm_up()  # compiling takes memory
    body = bytearray(head)
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match="expected 800 numbers"):
            read_body(body, len(body), 50_000, 1_000_000, TRANSFORMER)
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()


def test_as_many_lists_as_numbers_are_refused_before_they_are_decoded() -> None:
    nested = "[" + ",".join(["[[1]]"] * 80_000) + "]"
    head = f'{{"inputs":[{{"name":"input_ids","shape":[80000,1],"datatype":"INT64","data":{nested}}}]}}'
    body = bytearray(head.encode())
    with pytest.raises(BadRequest, match="found 80000 in 160001 lists"):
        read_body(body, len(body), 100_000, 1_000_000, TRANSFORMER)


def test_rows_fit_a_transformer_by_their_length_and_their_ids() -> None:
    assert TokenRows([], 8, 99).fit(TRANSFORMER)
    assert not TokenRows([], 9, 99).fit(TRANSFORMER)
    assert not TokenRows([], 8, 100).fit(TRANSFORMER)
