"""Bundles of n-grams through the server, `predict`, shared tables and an ensemble; and the first format."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import prelabel
from export.parity import TOLERANCE
from server.bundle import Bundle, read_bundle
from server.engines.base import pad
from server.engines.cpu_tables import read_tables
from server.engines.factory import open_engine
from server.engines.shared_tables import shared_tables
from server.models.tokenizer import Tokenizer
from tests.conftest import ROOT
from tests.encoders.fitted import fitted, published
from tests.serving import predict, running

CONFIG = """<View><Text name="text" value="$review"/><Choices name="c" toName="text">
<Choice value="label 0"/><Choice value="label 1"/><Choice value="label 2"/></Choices></View>"""
TEXTS = ["good film", "", "very bad plot . " * 30, "日本語 の film", "ﬁlm \0"]
KINDS = "words", "characters"


@pytest.fixture(scope="module")
def ngrams(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return published(tmp_path_factory.mktemp("bundles") / "ngrams", KINDS, 3)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return published(tmp_path_factory.mktemp("bundles") / "cnn", ["cnn"], 3)


def test_the_server_answers_as_the_definition_and_so_does_an_ensemble(ngrams: Bundle, cnn: Bundle) -> None:
    by_ngrams, by_cnn = fitted(KINDS, 3).probabilities(TEXTS), fitted(["cnn"], 3).probabilities(TEXTS)
    inputs = [{"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}]
    with running(ngrams, cnn, ensemble="both=ngrams,cnn:3,1") as client:
        for name, expected in (
            ("ngrams", by_ngrams),
            ("cnn", by_cnn),
            ("both", by_ngrams * 0.75 + by_cnn * 0.25),
        ):
            answer = client.post(f"/v2/models/{name}/infer", json={"inputs": inputs})
            assert answer.status_code == 200, answer.text
            outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
            found = np.reshape(outputs["probabilities"], expected.shape)
            assert np.abs(found - expected).max() <= TOLERANCE, name
            predictions = predict(client, TEXTS, CONFIG, path=f"/{name}")
            assert [each["score"] for each in predictions] == pytest.approx(expected.max(axis=1), abs=1e-5)


def test_predict_labels_a_file(ngrams: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([{"data": {"review": text}} for text in TEXTS]))
    (tmp_path / "config.xml").write_text(CONFIG)
    out = tmp_path / "out.json"
    command = ["predict", tmp_path / "in.json", out, "--bundle", ngrams.path, "--device", "cpu"]
    command += ["--label-config", tmp_path / "config.xml"]
    ran = CliRunner().invoke(prelabel.app, list(map(str, command)))
    assert ran.exit_code == 0, ran.output
    scores = [each["predictions"][0]["score"] for each in json.loads(out.read_text())]
    assert scores == pytest.approx(fitted(KINDS, 3).probabilities(TEXTS).max(axis=1), abs=1e-5)


def test_shared_tables_are_those_of_every_encoder(tmp_path: Path) -> None:
    bundle = published(tmp_path / "all", ["words", "cnn", "characters"])
    read, _ = read_tables(bundle)
    mapped, _ = shared_tables(bundle, tmp_path)
    for one, other in zip(read, mapped, strict=True):
        assert type(one) is type(other)
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))
    rows = Tokenizer.of(bundle).encode_all(TEXTS)
    call = pad(rows, max(map(len, rows)))
    shared = open_engine(bundle, shared=tmp_path, device="cpu")
    assert np.array_equal(shared.run(*call), open_engine(bundle, device="cpu").run(*call))


OF_FORMAT_1 = {
    "": (0.5066316723823547, 0.5066316723823547),
    "good": (0.4196280837059021, 0.4196280539035797),
    "A wonderful film, the best of the year!": (0.05068482086062431, 0.05068482086062431),
    "It's terrible: boring, slow and badly acted.": (0.9940621256828308, 0.9940621256828308),
    "\u65e5\u672c\u8a9e \ud800 \ufb01lm": (0.5066236257553101, 0.5066236257553101),
}
"""Text → the first label's probability by tables and ONNX, as the last version without encoders answered."""


def test_a_bundle_of_the_first_format_answers_as_before() -> None:
    """Equal bit for bit on one machine; another's BLAS and exp may round the last bits otherwise."""
    bundle = read_bundle(ROOT / "artifacts" / "imdb-cnn")
    assert (bundle.manifest.format, bundle.version) == (1, "imdb-cnn-bc8a95966fed")
    rows = Tokenizer.of(bundle).encode_all(list(OF_FORMAT_1))
    for i, name in enumerate(("tables", "onnx")):
        engine = open_engine(bundle, engine=name, device="cpu")
        found = np.concatenate([engine.run(*pad([row], len(row))) for row in rows])[:, 0]
        expected = np.array([each[i] for each in OF_FORMAT_1.values()], dtype=np.float32)
        assert np.abs(found - expected).max() <= 3e-7
