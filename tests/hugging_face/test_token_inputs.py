"""Token ids instead of texts through a real server: the probabilities of the texts with these ids."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from server.api.open_inference_tokens import DATATYPES
from server.app import build_batcher
from server.arrays import Floats, Ids
from server.batching.observer import BatchObserver
from server.bundle import Bundle, read_bundle
from server.errors import BadRequest
from server.models.ensemble import Ensemble
from server.models.fault_limits import DEFAULT_LIMITS
from server.models.model import load_model
from server.models.tokenizer import Tokenizer
from server.models.windows import Windows
from server.prediction.parse_thread import ParseThread
from server.prediction.predictor import Predictor
from server.prediction.scoring_store import ProjectScorings
from server.prediction.token_rows import TokenRows
from server.scoring import DEFAULT_SCORING
from server.settings import load_settings
from tests.api.test_open_inference import request_of, tensor
from tests.conftest import random_texts
from tests.hugging_face.tiny_models import TEXTS
from tests.loop_probe import LoopProbe
from tests.serving import running
from tests.test_event_loop import Request, check

SOME = [*TEXTS, *random_texts(40, seed=1), "", "good " * 500]
LONGEST = 64
PATH = "/v2/models/bert/infer"


@pytest.fixture(scope="module")
def probe() -> LoopProbe:
    return LoopProbe()


@pytest.fixture(scope="module")
def client(
    bert: Bundle, bundle: Bundle, probe: LoopProbe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    other = Path(shutil.copytree(bert.path, tmp_path_factory.mktemp("copies") / "other"))
    with running(bert, read_bundle(other), bundle, probe=probe, ensemble="both=bert,other") as client:
        yield client


@pytest.fixture
def outside(client: httpx.Client) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as outside:
        yield outside


@pytest.fixture(scope="module")
def rows(bert: Bundle) -> list[Ids]:
    """The ids of SOME, of which the long ones are truncated."""
    return [*Windows.of(Tokenizer.of(bert).encode_all(SOME), bert.encoders).rows]


def filled(rows: list[Ids], pad: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """input_ids and attention_mask, int64[rows, the most tokens of one]."""
    ids = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


def tokens_of(ids: Any, mask: Any = None, datatype: str = "INT64", *, flat: bool = False) -> dict[str, Any]:
    """The request in JSON."""
    return {
        "inputs": [
            {
                "name": name,
                "shape": [*numbers.shape],
                "datatype": datatype,
                "data": (numbers.ravel() if flat else numbers).tolist(),
            }
            for name, numbers in (("input_ids", ids), ("attention_mask", mask))
            if numbers is not None
        ]
    }


def probabilities(client: httpx.Client, body: dict[str, Any], path: str = PATH) -> Floats:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    tensor = answer.json()["outputs"][0]
    return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])


def test_the_probabilities_are_those_of_the_texts_bit_for_bit(client: httpx.Client, rows: list[Ids]) -> None:
    assert max(map(len, rows)) == LONGEST
    expected = probabilities(client, request_of(SOME))
    ids, mask = filled(rows)
    for flat in (True, False):
        for datatype in ("INT64", "INT32"):
            found = probabilities(client, tokens_of(ids, mask, datatype, flat=flat))
            assert np.array_equal(found, expected)
    for text, row in zip(SOME, rows, strict=True):
        alone = probabilities(client, request_of([text]))
        assert np.array_equal(probabilities(client, tokens_of(row[None])), alone)
        assert np.array_equal(probabilities(client, tokens_of(*filled([row]))), alone)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", ["INT64", "INT32"])
@pytest.mark.parametrize("mask_first", [True, False])
def test_an_outside_client_sends_token_ids_as_to_tritons_models(
    outside: triton.InferenceServerClient, rows: list[Ids], datatype: str, binary: bool, mask_first: bool
) -> None:
    inputs = []
    for name, numbers in zip(("input_ids", "attention_mask"), filled(rows), strict=True):
        made = triton.InferInput(name, [*numbers.shape], datatype)
        made.set_data_from_numpy(numbers.astype(datatype.lower()), binary_data=binary)
        inputs.append(made)
    answer = outside.infer("bert", inputs[::-1] if mask_first else inputs)
    expected = outside.infer("bert", [tensor(SOME)])
    for name in ("probabilities", "label"):
        assert np.array_equal(answer.as_numpy(name), expected.as_numpy(name))
    assert "parameters" not in answer.get_response()  # token ids are never cut


@pytest.mark.parametrize("flat", [True, False])
def test_a_large_request_means_the_same(client: httpx.Client, rows: list[Ids], flat: bool) -> None:
    ids, mask = filled(rows * 20)
    assert len(ids) > 1_500
    found = probabilities(client, tokens_of(ids, mask, flat=flat))
    expected = probabilities(client, request_of(SOME * 20))
    assert np.abs(found - expected).max() <= 1e-4  # the batches of a large request depend on time


def test_the_metadata_has_one_input_and_its_alternative(outside: triton.InferenceServerClient) -> None:
    (text,) = outside.get_model_metadata("bert")["inputs"]
    assert (text["name"], text["datatype"], text["shape"]) == ("text", "BYTES", [-1])
    ids, mask = text["parameters"]["alternative"]
    assert ids == {
        "name": "input_ids",
        "datatype": "INT64",
        "shape": [-1, -1],
        "parameters": {"optional": False, "max_length": LONGEST, "vocabulary": 119},
    }
    assert (mask["name"], mask["parameters"]["optional"]) == ("attention_mask", True)
    for name in ("tiny", "both"):
        assert outside.get_model_metadata(name)["inputs"] == [
            {"name": "text", "datatype": "BYTES", "shape": [-1]}
        ]


@pytest.mark.parametrize("name", ["tiny", "both"])
def test_other_models_take_texts(client: httpx.Client, rows: list[Ids], name: str) -> None:
    answer = client.post(f"/v2/models/{name}/infer", json=tokens_of(*filled(rows)))
    assert (answer.status_code, "this model takes `text`" in answer.json()["error"]) == (400, True)


def test_errors_name_the_field_and_the_remedy(bert: Bundle, outside: triton.InferenceServerClient) -> None:
    def refused(body: dict[str, Any], status: int, words: str) -> None:
        answer = server.post(PATH, json=body)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text

    ones = np.ones((2, 4), dtype=np.int64)
    with running(bert, max_tasks=2) as server:
        refused(tokens_of(np.ones((3, 4), dtype=np.int64)), 413, "PRELABEL_MAX_TASKS")
        refused(tokens_of(np.ones((1, LONGEST + 1), dtype=np.int64)), 400, "reads at most 64. Token ids are")
        refused(tokens_of(ones * 119), 400, "inputs[0].data: expected token ids from 0 to 118")
        refused(tokens_of(ones, ones * 0), 400, "inputs[1].data: expected at least one token")
        refused(tokens_of(ones, ones * [0, 1, 1, 1]), 400, "found a one after a zero in row 0; fill rows up")
        assert server.post(PATH, json=tokens_of(ones, ones * [1, 1, 1, 0])).is_success
    wrong = triton.InferInput("input_ids", [1, 2], "FP32")
    wrong.set_data_from_numpy(np.ones((1, 2), dtype=np.float32))
    with pytest.raises(InferenceServerException, match="expected INT64 or INT32"):
        outside.infer("bert", [wrong])


def test_requests_of_token_ids_are_counted_as_those_of_texts(client: httpx.Client, rows: list[Ids]) -> None:
    def counted() -> tuple[int, int]:
        (project,) = client.get("/bert/").json()["projects"]
        return project["predicted"], project["truncated"]

    client.post(PATH, json=request_of(["good"]))
    predicted, truncated = counted()
    answer = client.post(PATH, json=tokens_of(*filled(rows)))
    assert counted() == (predicted + len(rows), truncated)
    stages = [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert stages == ["parse", "tokenize", "queue", "engine", "write", "total"]


def test_token_ids_are_checked_against_the_model_that_answers(
    bert: Bundle, bundle: Bundle, tmp_path: Path
) -> None:
    """Another model under the same name takes no ids."""
    live = Path(shutil.copytree(bert.path, tmp_path / "live"))
    body = tokens_of(np.ones((1, 3), dtype=np.int64))
    with running(read_bundle(live), admin_token="boss") as client:
        assert client.post("/v2/models/live/infer", json=body).is_success
        shutil.rmtree(live)
        shutil.copytree(bundle.path, live)
        assert client.post("/admin/reload", headers={"Authorization": "Bearer boss"}).is_success
        assert client.post("/v2/models/live/infer", json=body).status_code == 400


def test_a_model_that_replaced_another_meanwhile_refuses_ids_that_it_does_not_take(
    bert: Bundle, bundle: Bundle
) -> None:
    """They were read for the model before."""

    def answer(served: Bundle, tokens: TokenRows) -> None:
        settings = load_settings(bundle=(served.path,), device="cpu")
        model = Ensemble.of_one(load_model(served.path, settings))
        batcher = build_batcher(settings, "cpu", BatchObserver(), DEFAULT_LIMITS, lambda: None)
        predictor = Predictor(
            "live",
            lambda _: model,
            batcher,
            ProjectScorings(),
            ParseThread(),
            label_map={},
            scoring=DEFAULT_SCORING,
            timeout=60,
            max_text=1_000,
        )
        asyncio.run(predictor.classify_tokens(tokens))

    row = [np.ones(3, dtype=np.int32)]
    for served, tokens in (
        (bundle, TokenRows(row, 3, 1)),
        (bert, TokenRows(row, LONGEST + 1, 1)),
        (bert, TokenRows(row, 3, 119)),
    ):
        with pytest.raises(BadRequest, match="the model was replaced while the request arrived"):
            answer(served, tokens)


MANY = 50_000


def json_of(rows: int, mask: list[int], *, flat: bool = False, status: int = 200) -> Request:
    numbers = [[2] * len(mask)] * rows, [mask] * rows
    inputs = [
        {
            "name": name,
            "shape": [rows, len(mask)],
            "datatype": "INT64",
            "data": [each for row in tensor for each in row] if flat else tensor,
        }
        for name, tensor in zip(("input_ids", "attention_mask"), numbers, strict=True)
    ]
    return Request(PATH, msgspec.json.encode({"inputs": inputs}), status=status)


def bytes_of(rows: int, mask: list[int], status: int = 200, datatype: str = "INT64") -> Request:
    tensors = [np.array([row] * rows, dtype=DATATYPES[datatype]) for row in ([2] * len(mask), mask)]
    inputs = [
        {
            "name": name,
            "shape": [rows, len(mask)],
            "datatype": datatype,
            "parameters": {"binary_data_size": tensor.nbytes},
        }
        for name, tensor in zip(("input_ids", "attention_mask"), tensors, strict=True)
    ]
    head = msgspec.json.encode({"inputs": inputs})
    body = head + b"".join(tensor.tobytes() for tensor in tensors)
    return Request(PATH, body, {"inference-header-content-length": str(len(head))}, status)


ONES, NONE = [1] * 15 + [0], [0] * LONGEST
REQUESTS: dict[str, Callable[[], Request]] = {
    "a small one": lambda: json_of(20, ONES),
    "4,000 rows": lambda: json_of(4_000, ONES),
    "4,000 rows in bytes": lambda: bytes_of(4_000, ONES),
    "50,000 short rows": lambda: json_of(MANY, [1, 1, 0]),
    "50,000 long rows without tokens": lambda: json_of(MANY, NONE, status=400),
    "the same, flat": lambda: json_of(MANY, NONE, flat=True, status=400),
    # INT64 would be 51 MB: past 32 MB the C library moves a growing body once, 18 ms, whatever is in it
    "the same, in bytes": lambda: bytes_of(MANY, NONE, 400, "INT32"),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_token_ids_do_not_hold_the_event_loop(kind: str, client: httpx.Client, probe: LoopProbe) -> None:
    request = REQUESTS[kind]()
    check(lambda _: request, client, probe)
