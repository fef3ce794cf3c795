"""Which model answers under which name, and how a new one takes its place without dropping a request.

A slot holds the model in use and the one before it. A reload loads and checks beside it, in a thread, and
then swaps: requests that have begun keep the model they began with, later ones get the new one. A bundle that
fails leaves everything as it was.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.arrays import RunBatch
from server.batching.engine_thread import ModelThread
from server.errors import BadBundle, BadRequest, PrelabelError
from server.models.ensemble import Ensemble
from server.models.model import Model
from server.settings import EnsembleSetting

log = logging.getLogger(__name__)

Load = Callable[[Path], Model]
"""A bundle's folder → the model, ready. Blocks. Raises BadBundle, BadSetting."""


FAILING = 3
"""Model calls in a row that failed, after which the engine is built anew."""

HEAL_EVERY = 10.0
"""Seconds between two tries to build it."""

LOAD_TIMEOUT = 600.0
"""Seconds after which loading a bundle is given up."""


@dataclass
class Slot:
    """A bundle's folder, the model in use, the one it replaced, and how many of its calls have failed since
    one succeeded.
    """

    path: Path
    current: Model
    previous: Model | None = None
    failures: int = 0

    @property
    def failing(self) -> bool:
        return self.failures >= FAILING


@dataclass(frozen=True)
class Change:
    """What a reload or rollback did to one name; `error` says why nothing was changed."""

    name: str
    version: str
    before: str
    error: str | None = None


class Registry:
    """`slots` by name, the first being the default; ensembles of them.
    Raises BadSetting for an ensemble that cannot be.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        ensembles: Sequence[EnsembleSetting],
        load: Load,
    ) -> None:
        self.slots = dict(slots)
        self.on_health_change: Callable[[], None] = lambda: None
        """Called when a model starts or stops to fail, and when another model takes its place."""
        self._load = load
        self._reloading = asyncio.Lock()
        self._ensembles = ensembles
        self._current: dict[str, Ensemble] = {}
        self._healing: dict[str, asyncio.Task[None]] = {}
        self._refresh()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._current)

    def current(self, name: str) -> Ensemble:
        """What answers under `name` now."""
        return self._current[name]

    async def reload(self, name: str | None = None) -> list[Change]:
        """Load the folder of one name, or of all, anew. Raises BadRequest for a name that is not served."""
        async with self._reloading:
            return [await self._reload(each) for each in self._chosen(name)]

    async def rollback(self, name: str | None = None) -> list[Change]:
        """Put back what the last reload replaced; once more puts it back again. Raises BadRequest for a name
        that is not served.
        """
        async with self._reloading:
            return [self._roll_back(each) for each in self._chosen(name)]

    def watch(self, run_batch: RunBatch, succeeded: bool) -> None:
        """A model call of `run_batch` has ended. After some failures in a row its engine is built anew, until
        one answers.
        """
        for name, slot in self.slots.items():
            if slot.current.run == run_batch:
                failed_before = slot.failing
                slot.failures = 0 if succeeded else slot.failures + 1
                if slot.failing != failed_before:
                    self.on_health_change()
                if slot.failing and name not in self._healing:
                    task = self._healing[name] = asyncio.get_running_loop().create_task(self._heal(name))
                    task.add_done_callback(lambda _, name=name: self._healing.pop(name))  # type: ignore[misc]  # a lambda's default has no type

    def bundle_of(self, run_batch: RunBatch) -> str:
        """The name of the bundle whose model `run_batch` runs, also of the one before; "replaced" for a model
        that both have gone by.
        """
        return next(
            (
                name
                for name, slot in self.slots.items()
                for model in (slot.current, slot.previous)
                if model and model.run == run_batch
            ),
            "replaced",
        )

    def failing(self, name: str) -> bool:
        """Whether a model that answers under `name` fails at every call."""
        models = [member.model for member in self._current[name].members]
        return any(slot.failing for slot in self.slots.values() if slot.current in models)

    def close(self) -> None:
        for task in self._healing.values():
            task.cancel()
        for slot in self.slots.values():
            for model in filter(None, (slot.current, slot.previous)):
                model.engine.close()

    def _chosen(self, name: str | None) -> list[str]:
        if name is not None and name not in self.slots:
            raise BadRequest(f"bundle: {name[:100]!r} is not served; these are: {', '.join(self.slots)}.")
        return [name] if name is not None else list(self.slots)

    async def _reload(self, name: str) -> Change:
        slot = self.slots[name]
        before = slot.current.bundle.version
        try:
            fresh = await self._loaded(slot.path)
            if fresh.bundle.version == before:
                fresh.engine.close()
                return Change(name, before, before)
            return self._swap(name, fresh)
        except PrelabelError as error:
            log.error("%s: %s goes on serving, the new bundle was refused: %s", name, before, error)
            return Change(name, before, before, str(error))

    async def _heal(self, name: str) -> None:
        slot = self.slots[name]
        broken = slot.current
        while slot.failing and slot.current is broken:
            log.error("%s: %d model calls in a row failed; its engine is built anew", name, slot.failures)
            async with self._reloading:
                if slot.current is broken:
                    await self._rebuild(name, broken)
            if slot.failing and slot.current is broken:
                await asyncio.sleep(HEAL_EVERY)

    async def _rebuild(self, name: str, broken: Model) -> None:
        slot = self.slots[name]
        try:
            fresh = await self._loaded(slot.path)
        except Exception as error:  # whatever broke the engine may break this too
            log.error(
                "%s: its engine cannot be built anew: %s",
                name,
                error if isinstance(error, PrelabelError) else type(error).__name__,
            )
            return
        if fresh.bundle.version != broken.bundle.version:
            fresh.engine.close()
            log.error(
                "%s: its engine cannot be built anew, for its folder holds %s now; POST /admin/reload "
                "or SIGHUP takes that",
                name,
                fresh.bundle.version,
            )
            return
        # a call may hang in the broken one, so it is not closed
        slot.current, slot.failures = fresh, 0
        self._refresh()
        self.on_health_change()
        log.warning("%s: its engine was built anew and answers", name)

    async def _loaded(self, path: Path) -> Model:
        """In a thread of its own, for loading may hang like any call. Raises BadBundle, BadSetting."""
        thread = ModelThread("load")
        try:
            async with asyncio.timeout(LOAD_TIMEOUT):
                return await thread.call(lambda: self._load(path))
        except TimeoutError:
            raise BadBundle(
                f"{path}: the bundle was not loaded within {LOAD_TIMEOUT:g} s; look at the host, and "
                "try again."
            ) from None
        finally:
            thread.end()

    def _roll_back(self, name: str) -> Change:
        slot = self.slots[name]
        version = slot.current.bundle.version
        if slot.previous is None:
            return Change(
                name,
                version,
                version,
                "There is nothing to go back to: no reload has replaced a model since the start.",
            )
        try:
            return self._swap(name, slot.previous)
        except PrelabelError as error:
            return Change(name, version, version, str(error))

    def _swap(self, name: str, fresh: Model) -> Change:
        """Raises BadSetting when an ensemble cannot be made of the fresh model, and leaves all as it was."""
        slot = self.slots[name]
        before, kept = slot.current, slot.previous
        slot.current, slot.previous = fresh, before
        try:
            self._refresh()
        except PrelabelError:
            slot.current, slot.previous = before, kept
            raise
        slot.failures = 0
        self.on_health_change()
        log.info(
            "%s: %s serves now, %s is kept for a rollback", name, fresh.bundle.version, before.bundle.version
        )
        return Change(name, fresh.bundle.version, before.bundle.version)

    def _refresh(self) -> None:
        current = {name: Ensemble.of_one(slot.current) for name, slot in self.slots.items()}
        for setting in self._ensembles:
            current[setting.name] = Ensemble.of_several(
                setting.name, [self.slots[member].current for member in setting.members], setting.weights
            )
        self._current = current
