"""Transformers behind the server: answers, ensembles, windows, reload, broken bundles, and the event loop."""

import concurrent.futures
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from export.classifier import FittedClassifier, publish_classifier
from export.publish_transformer import TransformerOptions, export_transformer
from server.arrays import Floats
from server.bundle import Bundle, read_bundle
from server.engines.factory import open_engine
from server.errors import BadBundle, BadSetting
from server.prediction.request import MOST_WINDOWS
from tests.conftest import WORDS, random_texts
from tests.encoders.fitted import fitted_cnn
from tests.encoders.test_damaged import sign
from tests.hugging_face.conftest import Exported, Saved
from tests.hugging_face.test_export import by_transformers, split_at
from tests.hugging_face.tiny_models import LABELS
from tests.loop_probe import LoopProbe
from tests.serving import predict, running
from tests.test_event_loop import Request, check

CONFIG = """<View><Text name="text" value="$review"/><Choices name="c" toName="text">
<Choice value="bad"/><Choice value="fair"/><Choice value="good"/></Choices></View>"""
WINDOWS = TransformerOptions(long_texts="windows", max_length=20)
TEXTS = ["good film", "", "日本語 の film", "ﬁlm \0", *random_texts(40), "very bad plot . " * 300]


def infer(client: httpx.Client, name: str, texts: list[str]) -> Floats:
    inputs = [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]
    answer = client.post(f"/v2/models/{name}/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    return np.reshape(np.array(outputs["probabilities"], dtype=np.float32), (len(texts), -1))


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    classifier = FittedClassifier(LABELS, [fitted_cnn(3)], np.zeros(3, np.float32), words=WORDS[2:])
    return publish_classifier(classifier, tmp_path_factory.mktemp("bundles") / "cnn", torchscript=False)


@pytest.fixture(scope="module")
def client(exported: Exported, cnn: Bundle) -> Iterator[httpx.Client]:
    roberta = exported("roberta")
    with running(roberta, cnn, ensemble=f"both={roberta.path.name},cnn:1,3") as client:
        yield client


def test_the_server_answers_as_transformers_and_so_does_an_ensemble(
    client: httpx.Client, exported: Exported, saved: Saved, cnn: Bundle
) -> None:
    roberta = exported("roberta")
    expected = by_transformers(saved("roberta"), TEXTS)
    assert np.abs(infer(client, roberta.path.name, TEXTS) - expected).max() <= 1e-4
    mean = expected * 0.25 + infer(client, "cnn", TEXTS) * 0.75
    assert np.abs(infer(client, "both", TEXTS) - mean).max() <= 1e-4
    scores = [each["score"] for each in predict(client, TEXTS, CONFIG, path=f"/{roberta.path.name}")]
    assert scores == pytest.approx(expected.max(axis=1), abs=1e-4)


def test_single_texts_at_once_have_the_answers_of_one_request(
    client: httpx.Client, exported: Exported
) -> None:
    name = exported("roberta").path.name
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        alone = np.concatenate(list(pool.map(lambda text: infer(client, name, [text]), TEXTS)))
    assert np.abs(alone - infer(client, name, TEXTS)).max() <= 1e-4


def test_windows_through_the_server(exported: Exported) -> None:
    """A text of many windows among short ones, alone and together, with the answer of the definition."""
    bundle = exported("bert", WINDOWS)
    texts = ["good film", " ".join(random_texts(2)), "", " ".join(random_texts(8))]
    with running(bundle) as client:
        together = infer(client, bundle.path.name, texts)
        alone = np.concatenate([infer(client, bundle.path.name, [text]) for text in texts])
    assert np.abs(together - alone).max() <= 1e-4
    truncated = exported("bert", TransformerOptions(max_length=20))
    with running(truncated) as client:
        cut = infer(client, truncated.path.name, texts)
    assert np.abs(together - cut)[[0, 2]].max() <= 1e-4
    assert np.abs(together - cut)[[1, 3]].max() > 1e-3


def test_a_single_task_of_many_windows_runs_as_bulk(exported: Exported) -> None:
    """The bundle reads 20 tokens of a text at a time."""
    with running(exported("bert", WINDOWS)) as client:
        predict(client, ["very bad plot . " * 20], CONFIG)
        few = rows_by_priority(client)
        predict(client, ["very bad plot . " * 300], CONFIG)
        many = rows_by_priority(client)
    assert few["bulk"] == 0
    assert 1 < few["interactive"] <= many["interactive"] <= MOST_WINDOWS
    assert many["bulk"] > MOST_WINDOWS


def rows_by_priority(client: httpx.Client) -> dict[str, float]:
    """Texts in model calls so far."""
    pattern = re.compile(r'^prelabel_batch_rows_sum\{.*lane="(\w+)".*\} (\S+)$', re.MULTILINE)
    found = pattern.findall(client.get("/metrics").text)
    return {"bulk": 0.0, "interactive": 0.0} | {priority: float(rows) for priority, rows in found}


def test_a_reload_takes_another_transformer(exported: Exported, tmp_path: Path) -> None:
    served = tmp_path / "served"
    shutil.copytree(exported("bert").path, served)
    other = exported("roberta")
    with running(read_bundle(served), admin_token="secret") as client:
        before = client.get("/").json()["model_version"]
        shutil.rmtree(served)
        shutil.copytree(other.path, served)
        reloaded = client.post("/admin/reload", headers={"Authorization": "Bearer secret"})
        assert reloaded.status_code == 200, reloaded.text
        assert client.get("/").json()["model_version"] == other.version != before
        assert len(predict(client, ["good film"], CONFIG)) == 1


def test_engines_that_a_transformer_does_not_have(exported: Exported) -> None:
    with pytest.raises(BadSetting, match=r"engine=tables: bert-\d+ has a transformer"):
        open_engine(exported("bert"), engine="tables", device="cpu")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "vocabulary": ({"vocabulary": 5}, "it has ids up to"),
    "max_length": ({"max_length": 3}, "max_length must leave room for a text"),
    "much too long": ({"max_length": 100_000}, "less than or equal to 8192"),
    "special tokens": ({"prefix": [10**6]}, "special tokens must be in the vocabulary"),
    "negative": ({"suffix": [-1]}, "special tokens must be in the vocabulary"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_manifest_that_cannot_be_is_an_error(case: str, exported: Exported, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    copy = shutil.copytree(exported("bert").path, tmp_path / "bert")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["encoders"][0] |= change
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with suppress(ValidationError):  # what its model refuses needs no checksums
        sign(copy)
    with pytest.raises(BadBundle, match=message):
        read_bundle(copy)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"null", b'{"model": {"type": "BPE"}}', b"\xff", b"[" * 100_000]
)
def test_a_tokenizer_that_cannot_be_read_is_an_error(
    content: bytes, exported: Exported, tmp_path: Path
) -> None:
    copy = shutil.copytree(exported("bert").path, tmp_path / "bert")
    (copy / "tokenizer.json").write_bytes(content)
    sign(copy)
    with pytest.raises(BadBundle, match=r"tokenizer.json: .*export the bundle again"):
        read_bundle(copy)


def test_a_panic_of_the_tokenizer_is_an_error_of_its_request(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("bert"), tmp_path / "zzz")
    split_at(r"(z+z+)+y", folder)
    bundle = export_transformer(folder, tmp_path / "bert", TransformerOptions(), torchscript=False)
    with running(bundle) as client:
        for text, status in (("good film", 200), ("z" * 3000, 500), ("good film", 200)):
            inputs = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]
            answer = client.post("/v2/models/bert/infer", json={"inputs": inputs})
            assert answer.status_code == status
            assert status == 200 or "the model's tokenizer fails on a text" in answer.json()["error"]
            assert answer.headers["X-Request-Id"]


JAPANESE = "日本語のテキストです"


@pytest.fixture(scope="module", params=["truncate", "windows"])
def probed(
    request: pytest.FixtureRequest, exported: Exported
) -> Iterator[tuple[httpx.Client, LoopProbe, str]]:
    bundle = exported("roberta", TransformerOptions(long_texts=request.param))
    probe = LoopProbe()
    with running(bundle, probe=probe) as client:
        yield client, probe, bundle.path.name


@pytest.mark.parametrize(
    "texts",
    [["good film " * 199], [JAPANESE * 199], [JAPANESE * 20_000], ["a" * 200_000], [JAPANESE * 40] * 300],
    ids=["on the loop", "Japanese", "a long text", "a long word", "many texts"],
)
def test_no_text_holds_the_event_loop(texts: list[str], probed: tuple[httpx.Client, LoopProbe, str]) -> None:
    client, probe, name = probed
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    body = json.dumps({"inputs": [tensor]}, ensure_ascii=False).encode()
    check(lambda _: Request(f"/v2/models/{name}/infer", body), client, probe)
