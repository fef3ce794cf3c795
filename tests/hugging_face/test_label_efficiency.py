"""The label efficiency with a sentence encoder, on a small made-up data set."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import label_efficiency, results
from benchmarks.tables import OF_EMBEDDINGS, WITH_ENCODER
from export.encoders.transformer import FittedTransformer
from tests.benchmarks.test_label_efficiency import write
from tests.hugging_face.tiny_models import save_sentence_encoder


def test_a_sentence_encoder_is_compared_with_logistic_regression_on_its_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "measured")
    encoder = save_sentence_encoder(tmp_path / "encoder")
    files = f"{write(tmp_path / 'train.csv', 16)},{write(tmp_path / 'test.csv', 10)},text,label"
    words = ["--labels", "12", "--draws", "1", "--picture", str(tmp_path / "curves.png")]
    monkeypatch.setattr(
        "sys.argv", ["label_efficiency", f"films={files}", *words, "--sentence-encoder", str(encoder)]
    )
    label_efficiency.main()
    found = results.read("label_efficiency")
    assert found is not None
    for line in found["figures"]["sets"][0]["lines"]:
        assert line[WITH_ENCODER]["seconds"] > 0
        assert all(0 <= line[name]["accuracy"] <= 1 for name in OF_EMBEDDINGS)
    assert "with a sentence encoder" in capsys.readouterr().out


def test_features_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = label_efficiency.remembering(save_sentence_encoder(tmp_path / "encoder"))
    texts = ["a good film", "a bad film", "a good film"]
    found = network.embeddings(texts)
    monkeypatch.setattr(FittedTransformer, "features", None)
    assert np.array_equal(network.embeddings(texts), found)
    assert np.array_equal(found[0], found[2])
