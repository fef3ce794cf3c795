"""Reload and rollback: which model serves, which is kept, and that a broken bundle changes nothing."""

import asyncio
import threading
from pathlib import Path

import pytest

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from server.engines.base import Engine
from server.errors import BadBundle, BadRequest
from server.models.fault_limits import FaultLimits
from server.models.model import Model
from server.models.registry import ModelSlot, Registry
from server.models.tokenizer import Tokenizer
from server.settings import EnsembleSetting
from tests.conftest import tiny_network

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def models(bundle: Bundle, onnx: Engine, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """Two models with the same labels and one with different labels."""
    folder = tmp_path_factory.mktemp("versions")
    bundles = [
        bundle,
        *(
            export_bundle(tiny_network(seed=seed, classes=classes), folder / f"v{seed}", torchscript=False)
            for seed, classes in ((1, 2), (2, 3))
        ),
    ]
    return [Model(each, onnx, Tokenizer.of(each)) for each in bundles]


class Shelf:
    """Loads the next of `found`, a model or an error."""

    def __init__(self, *found: Model | Exception) -> None:
        self.found = list(found)
        self.open = threading.Event()
        self.open.set()

    def __call__(self, path: Path) -> Model:
        self.open.wait()
        found = self.found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def registry(shelf: Shelf, *models: Model, ensembles: tuple[EnsembleSetting, ...] = ()) -> Registry:
    return Registry(
        {name: ModelSlot(Path(name), model) for name, model in zip("ab", models, strict=False)},
        ensembles,
        shelf,
        FaultLimits(),
    )


def versions(*models: Model) -> list[str]:
    return [model.bundle.version for model in models]


async def test_a_reload_swaps_the_bundle_and_a_rollback_restores_the_old_one(models: list[Model]) -> None:
    first, second, _ = models
    served = registry(Shelf(second), first)
    (change,) = await served.reload()
    assert (change.version, change.before, change.error) == (*versions(second, first), None)
    assert served.current("a").version == second.bundle.version
    (change,) = await served.rollback("a")
    assert (change.version, change.error) == (first.bundle.version, None)
    (change,) = await served.rollback("a")
    assert served.current("a").version == second.bundle.version


async def test_the_old_model_serves_while_the_new_one_is_loaded(models: list[Model]) -> None:
    first, second, _ = models
    shelf = Shelf(second)
    shelf.open.clear()
    served = registry(shelf, first)
    reload = asyncio.create_task(served.reload())
    await asyncio.sleep(0)
    assert served.current("a").version == first.bundle.version
    shelf.open.set()
    await reload
    assert served.current("a").version == second.bundle.version


async def test_a_broken_bundle_leaves_the_old_one_serving_and_the_error_is_reported(
    models: list[Model],
) -> None:
    served = registry(Shelf(BadBundle("model.onnx was altered")), models[0])
    (change,) = await served.reload()
    assert (change.version, change.error) == (models[0].bundle.version, "model.onnx was altered")
    assert served.current("a").version == models[0].bundle.version
    (change,) = await served.rollback()
    assert "nothing to go back to" in str(change.error)


async def test_one_of_several_is_reloaded_and_ensembles_follow(models: list[Model]) -> None:
    first, second, _ = models
    served = registry(
        Shelf(second), first, first, ensembles=(EnsembleSetting("both", ("a", "b"), (1.0, 1.0)),)
    )
    assert served.names == ("a", "b", "both")
    before = served.current("both").version
    await served.reload("b")
    assert [served.current(name).version for name in ("a", "b")] == versions(first, second)
    assert served.current("both").version != before
    with pytest.raises(BadRequest, match="'both' is not served; the bundles are a, b"):
        await served.reload("both")


async def test_a_model_that_does_not_fit_an_ensemble_is_rejected_and_nothing_changes(
    models: list[Model],
) -> None:
    first, _, three = models
    served = registry(
        Shelf(three, three), first, first, ensembles=(EnsembleSetting("both", ("a", "b"), (1.0, 1.0)),)
    )
    before = {name: served.current(name).version for name in served.names}
    changes = await served.reload()
    assert all("must have the same labels" in str(change.error) for change in changes)
    assert {name: served.current(name).version for name in served.names} == before
    assert "nothing to go back to" in str((await served.rollback("a"))[0].error)


async def test_the_same_bundle_again_changes_nothing(models: list[Model]) -> None:
    served = registry(Shelf(models[0]), models[0])
    (change,) = await served.reload()
    assert (change.version, change.before, change.error) == (*versions(models[0], models[0]), None)
    assert served.slots["a"].previous is None


async def test_a_change_of_health_is_reported_once(models: list[Model]) -> None:
    reported: list[bool] = []
    served = Registry(
        {"a": ModelSlot(Path("a"), models[0])},
        (),
        Shelf(BadBundle("altered")),
        FaultLimits(failed_calls=3),
    )
    served.on_health_change = lambda: reported.append(served.failing("a"))
    for _ in range(4):
        served.record_call(models[0].run, succeeded=False)
    assert reported == [True]
    served.record_call(models[0].run, succeeded=True)
    served.record_call(models[0].run, succeeded=True)
    assert reported == [True, False]
    served.close()


async def test_a_model_call_belongs_to_its_bundle_until_the_second_reload_after(models: list[Model]) -> None:
    first, second, third = models
    served = registry(Shelf(second, third), first)
    await served.reload()
    assert [served.bundle_of(model.run) for model in models] == ["a", "a", "replaced"]
    await served.reload()
    assert served.bundle_of(first.run) == "replaced"
