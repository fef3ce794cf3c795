"""Two sessions of one network: the same answer bit for bit, and one copy of the embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.publish_transformer import TransformerOptions, export_transformer
from server.bundle import Bundle
from server.engines.base import Engine, pad
from server.engines.factory import open_engine
from server.engines.session_pair import SHARED_BYTES, embeddings
from server.models import model
from server.models.model import load_model
from server.settings import load_settings
from tests.hugging_face.test_export import labelled
from tests.hugging_face.tiny_models import save_classifier

LARGE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "max_position_embeddings": 1024,
    "initializer_range": 0.05,
}
"""Large enough for several threads to share a matrix product."""


@pytest.fixture(scope="module", params=["float32", "int8"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("large")
    options = TransformerOptions(
        precision=request.param,
        calibration=labelled(["a", "b"], ["good", "bad"]) if request.param == "int8" else None,
    )
    directory = save_classifier(folder / "saved", **LARGE)
    return export_transformer(directory, folder / "bundle", options, torchscript=False)


def test_the_answer_on_all_cores_is_that_on_one_bit_for_bit(large: Bundle) -> None:
    one = open_engine(large, device="cpu")
    random = np.random.default_rng(0)
    several = [open_engine(large, device="cpu", cores=cores) for cores in (2, 3, 8)]
    for length in (1, 2, 3, 7, 16, 31, 64, 100, 128, 200, 255, 256, 257, 500, 1024):
        for count in {1, max(1, 256 // length)}:
            call = pad([random.integers(5, 100, length).astype(np.int32) for _ in range(count)], length)
            expected = one.run(*call)
            assert all(np.array_equal(engine.run(*call), expected) for engine in several)


def test_the_embeddings_are_in_memory_once(large: Bundle) -> None:
    """Those of tokens or positions that are large, and no matrix of a product."""
    found = {name: value.shape() for name, value in embeddings(large).items()}
    assert [1024, 256] in found.values()
    assert all("embeddings" in name and 4 * np.prod(shape) >= SHARED_BYTES for name, shape in found.items())


def test_the_server_gives_a_lone_call_its_cores(large: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def open_and_note(bundle: Bundle, **options: Any) -> Engine:
        opened.append(options["cores"])
        return open_engine(bundle, **options)

    monkeypatch.setattr(model, "open_engine", open_and_note)
    settings = load_settings(engine_threads=2, device="cpu")
    load_model(large.path, settings)
    assert opened == [settings.cores]
