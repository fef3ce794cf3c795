"""Loading and checking of a model, and ensembles of several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.publish_checkpoint import export_bundle
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.base import Engine
from server.errors import BadBundle, BadSetting
from server.models.ensemble import Ensemble
from server.models.model import Model, _check, load_model
from server.models.tokenizer import Tokenizer
from server.settings import load_settings
from tests.conftest import tiny_network


class FakeEngine:
    """Returns `output` for every row; without one, probabilities that depend on the padding."""

    name, device = "fake", "cpu"
    degraded: str | None = None

    def __init__(self, output: Floats | None = None) -> None:
        self.output = output

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        if self.output is not None:
            return np.repeat(self.output[None], len(ids), axis=0)
        share = np.float32(ids.shape[1] / 10_000)
        return np.array([[share, 1 - share]] * len(ids), dtype=np.float32)

    def close(self) -> None:
        pass


def model(bundle: Bundle, engine: Engine) -> Model:
    return Model(bundle, engine, Tokenizer.of(bundle))


def floats(*numbers: float) -> Floats:
    return np.array(numbers, dtype=np.float32)


def test_a_complete_bundle_becomes_a_model(bundle: Bundle) -> None:
    ready = load_model(bundle.path, load_settings(device="cpu"))
    answer = ready.run([ready.tokenizer.encode("good film")], 16)
    assert answer.shape == (1, 2)
    assert Ensemble.of_one(ready).version == bundle.version


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "depend on its padding"),
        (floats(0.2, 0.3, 0.5), "2 probabilities"),
        (floats(0.9, 0.9), "2 probabilities"),
        (floats(float("nan"), 1.0), "2 probabilities"),
    ],
)
def test_a_model_with_wrong_probabilities_is_rejected(
    bundle: Bundle, answer: Floats | None, message: str
) -> None:
    with pytest.raises(BadBundle, match=message):
        _check(model(bundle, FakeEngine(answer)), (16, 32))


def test_an_ensemble_returns_the_weighted_mean_per_label(bundle: Bundle, tmp_path: Path) -> None:
    network = replace(tiny_network(seed=1), labels=("Positive", "Negative"))
    other = export_bundle(network, tmp_path / "other", torchscript=False)
    models = [model(bundle, FakeEngine()), model(other, FakeEngine())]
    ensemble = Ensemble.of_several("both", models, (3, 1))
    assert ensemble.labels == ("Negative", "Positive")
    mean = ensemble.mean([floats(0.8, 0.2)[None], floats(0.4, 0.6)[None]])
    np.testing.assert_allclose(mean[0], [0.75 * 0.8 + 0.25 * 0.6, 0.75 * 0.2 + 0.25 * 0.4], atol=1e-7)
    assert ensemble.version.startswith("both-")
    assert ensemble.version == Ensemble.of_several("both", models, (6, 2)).version
    assert (
        len(
            {
                ensemble.version,
                Ensemble.of_several("both", models, (1, 1)).version,
                Ensemble.of_several("both", models[::-1], (3, 1)).version,
            }
        )
        == 3
    )


def test_the_mean_of_one_model_is_its_output_bit_for_bit(bundle: Bundle) -> None:
    answer = np.random.default_rng(0).random((5, 2), dtype=np.float32)
    mean = Ensemble.of_one(model(bundle, FakeEngine())).mean([answer])
    assert mean.tobytes() == answer.tobytes()


def test_models_with_different_labels_cannot_form_an_ensemble(bundle: Bundle, tmp_path: Path) -> None:
    other = export_bundle(tiny_network(classes=3), tmp_path / "three", torchscript=False)
    with pytest.raises(BadSetting, match="ensemble both: its models must have the same labels"):
        Ensemble.of_several("both", [model(bundle, FakeEngine()), model(other, FakeEngine())], (1, 1))
