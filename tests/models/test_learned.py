"""Learned models of projects: the server follows the store, and other projects keep their model."""

from pathlib import Path

import pytest

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from server.engines.base import Engine
from server.errors import BadBundle
from server.learning.forget import models_of
from server.learning.store import LearningProject, LearningStore
from server.models.fault_limits import FaultLimits
from server.models.learned import LearnedModels
from server.models.model import Model
from server.models.registry import ModelSlot, Registry
from server.models.tokenizer import Tokenizer
from tests.conftest import tiny_network

pytestmark = pytest.mark.anyio

PROJECT = "7.1795474444"


class Shelf:
    """Loads a copy of `model`, which has the version of its folder's name; "broken" cannot be loaded."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.loaded: list[Path] = []

    def __call__(self, path: Path) -> Model:
        self.loaded.append(path)
        if path.name == "broken":
            raise BadBundle(f"{path}: broken.")
        return self.model


@pytest.fixture(scope="module")
def models(bundle: Bundle, onnx: Engine, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """That of the server, and another with three labels."""
    folder = tmp_path_factory.mktemp("learned")
    other = export_bundle(tiny_network(seed=2, classes=3), folder / "learned", torchscript=False)
    return [Model(each, onnx, Tokenizer.of(each)) for each in (bundle, other)]


@pytest.fixture
def store(tmp_path: Path) -> LearningStore:
    store = LearningStore(tmp_path / "learning.sqlite")
    store.set_up(LearningProject(7, "a", PROJECT, "<View/>"))
    return store


async def test_the_server_follows_the_store(models: list[Model], store: LearningStore) -> None:
    base, learned = models
    shelf = Shelf(learned)
    registry = Registry({"a": ModelSlot(Path("a"), base)}, (), shelf, FaultLimits())
    follower = LearnedModels(store, registry, Path("learned"))
    await follower.follow()
    assert registry.current("a", PROJECT).version == base.bundle.version

    store.serve(7, "a-1")
    await follower.follow()
    await follower.follow()
    assert shelf.loaded == [models_of(Path("learned"), 7) / "a-1"], "loaded once"
    assert registry.current("a", PROJECT).version == learned.bundle.version
    assert registry.current("a", "8.1").version == base.bundle.version
    assert registry.current("a").version == base.bundle.version
    assert registry.names == ("a",)
    assert registry.bundle_of(registry.current("a", PROJECT).members[0].model.run) == "a"

    store.serve(7, "")
    await follower.follow()
    assert registry.current("a", PROJECT).version == base.bundle.version


async def test_a_learned_model_that_cannot_be_loaded_changes_nothing(
    models: list[Model], store: LearningStore
) -> None:
    base, learned = models
    shelf = Shelf(learned)
    registry = Registry({"a": ModelSlot(Path("a"), base)}, (), shelf, FaultLimits())
    follower = LearnedModels(store, registry, Path("learned"))
    store.serve(7, "a-1")
    await follower.follow()
    store.serve(7, "broken")
    await follower.follow()
    await follower.follow()
    assert len(shelf.loaded) == 2, "not tried again and again"
    assert registry.current("a", PROJECT).version == learned.bundle.version
    store.serve(7, "a-2")
    await follower.follow()
    assert len(shelf.loaded) == 3


async def test_a_project_of_an_unknown_model_is_left_alone(models: list[Model], store: LearningStore) -> None:
    registry = Registry({"a": ModelSlot(Path("a"), models[0])}, (), Shelf(models[1]), FaultLimits())
    store.set_up(LearningProject(8, "gone", "8.1", "<View/>"))
    store.serve(8, "gone-1")
    await LearnedModels(store, registry, Path("learned")).follow()
    assert registry.names == ("a",)


async def test_a_failing_learned_engine_is_rebuilt(models: list[Model], store: LearningStore) -> None:
    base, learned = models
    shelf = Shelf(learned)
    registry = Registry({"a": ModelSlot(Path("a"), base)}, (), shelf, FaultLimits(failed_calls=1))
    store.serve(7, "a-1")
    await LearnedModels(store, registry, Path("learned")).follow()
    registry.record_call(registry.current("a", PROJECT).members[0].model.run, succeeded=False)
    assert not registry.failing("a"), "the model of the others still answers"
    (task,) = registry._rebuilding.values()
    await task
    assert len(shelf.loaded) == 2
    assert not registry._rebuilding
