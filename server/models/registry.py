"""Which model answers under which name: reload, rollback, and repair of a failing engine.

A slot holds the current model and the previous one. A reload loads and checks the new model in a thread and
then swaps, without dropping a request: a request keeps the model that it started with. A bundle that fails
its check changes nothing.

A project that learns has a slot of its own for its learned model, under the name that it is connected to.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.arrays import RunBatch
from server.batching.engine_thread import EngineThread
from server.errors import BadBundle, BadRequest, PrelabelError
from server.models.ensemble import Ensemble
from server.models.fault_limits import FaultLimits
from server.models.model import Model
from server.settings import EnsembleSetting, Settings

log = logging.getLogger(__name__)

Load = Callable[[Path], Model]
"""Bundle folder → ready model. Blocks. Raises BadBundle, BadSetting."""

Key = tuple[str, str]
"""The name that a project is connected to, and the project's."""


@dataclass(eq=False)
class ModelSlot:
    """A bundle folder, its current model, the model before it, and how many calls in a row have failed."""

    path: Path
    current: Model
    previous: Model | None = None
    failures: int = 0


@dataclass(frozen=True)
class Change:
    """Result of a reload or rollback of one name. `error` is the reason if nothing changed."""

    name: str
    version: str
    before: str
    error: str | None = None


class Registry:
    """Bundles in `slots` by name, the first is the default, and ensembles of them. Raises BadSetting for an
    ensemble whose models do not fit together.
    """

    def __init__(
        self,
        slots: Mapping[str, ModelSlot],
        ensembles: Sequence[EnsembleSetting],
        load: Load,
        limits: FaultLimits,
    ) -> None:
        self.slots = dict(slots)
        self.on_health_change: Callable[[], None] = lambda: None
        """Called when a model starts or stops failing, and after every swap."""
        self._load = load
        self._limits = limits
        self._reloading = asyncio.Lock()
        self._ensembles = ensembles
        self._current: dict[str, Ensemble] = {}
        self._learned: dict[Key, ModelSlot] = {}
        self._current_learned: dict[Key, Ensemble] = {}
        self._rebuilding: dict[ModelSlot, asyncio.Task[None]] = {}
        self._refresh()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._current)

    def current(self, name: str, project: str = "") -> Ensemble:
        """The model or ensemble that answers under `name` now, or the learned model of `project`."""
        return self._current_learned.get((name, project)) or self._current[name]

    async def reload(self, name: str | None = None) -> list[Change]:
        """Load the bundle folder of one name, or of all, again. Raises BadRequest for an unknown name."""
        async with self._reloading:
            return [await self._reload(each) for each in self._selected(name)]

    async def rollback(self, name: str | None = None) -> list[Change]:
        """Undo the last reload; a second rollback undoes the first. Raises BadRequest for an unknown name."""
        async with self._reloading:
            return [self._roll_back(each) for each in self._selected(name)]

    async def serve_learned(self, name: str, project: str, path: Path) -> None:
        """Load a learned bundle, and answer requests of `project` under `name` with it. Raises BadBundle,
        BadSetting.
        """
        fresh = await self._load_in_thread(path)
        self._learned[name, project] = ModelSlot(path, fresh)
        self._refresh()
        log.info("%s: %s serves project %s now", name, fresh.bundle.version, project)

    def drop_learned(self, name: str, project: str) -> None:
        """Answer requests of `project` with the model of `name` again."""
        if self._learned.pop((name, project), None) is not None:
            self._refresh()
            log.info("%s: project %s has no learned model now", name, project)

    def record_call(self, run_batch: RunBatch, succeeded: bool) -> None:
        """Count the model call of `run_batch` that has ended. After several failures in a row, rebuild the
        engine, repeatedly until a call succeeds.
        """
        for name, slot in self._named_slots():
            if slot.current.run == run_batch:
                failed_before = self._is_failing(slot)
                slot.failures = 0 if succeeded else slot.failures + 1
                if self._is_failing(slot) != failed_before:
                    self.on_health_change()
                if self._is_failing(slot) and slot not in self._rebuilding:
                    repair = self._repair(name, slot)
                    task = self._rebuilding[slot] = asyncio.get_running_loop().create_task(repair)
                    task.add_done_callback(lambda _, slot=slot: self._rebuilding.pop(slot))  # type: ignore[misc]  # a lambda's default has no type

    def bundle_of(self, run_batch: RunBatch) -> str:
        """The name of the bundle that `run_batch` belongs to; "replaced" if the model is neither the current
        nor the previous one.
        """
        return next(
            (
                name
                for name, slot in self._named_slots()
                for model in (slot.current, slot.previous)
                if model and model.run == run_batch
            ),
            "replaced",
        )

    def failing(self, name: str) -> bool:
        """Whether the latest calls of a model that answers under `name` have all failed."""
        models = [member.model for member in self._current[name].members]
        return any(self._is_failing(slot) for slot in self.slots.values() if slot.current in models)

    def close(self) -> None:
        for task in self._rebuilding.values():
            task.cancel()
        for _, slot in self._named_slots():
            for model in filter(None, (slot.current, slot.previous)):
                model.engine.close()

    def _named_slots(self) -> Iterator[tuple[str, ModelSlot]]:
        """All slots, with the name that each answers under."""
        yield from self.slots.items()
        for (name, _), slot in self._learned.items():
            yield name, slot

    def _is_failing(self, slot: ModelSlot) -> bool:
        return slot.failures >= self._limits.failed_calls

    def _selected(self, name: str | None) -> list[str]:
        if name is not None and name not in self.slots:
            raise BadRequest(
                f"bundle: {name[:100]!r} is not served; the bundles are {', '.join(self.slots)}."
            )
        return [name] if name is not None else list(self.slots)

    async def _reload(self, name: str) -> Change:
        slot = self.slots[name]
        before = slot.current.bundle.version
        try:
            fresh = await self._load_in_thread(slot.path)
            if fresh.bundle.version == before:
                fresh.engine.close()
                return Change(name, before, before)
            return self._swap(name, fresh)
        except PrelabelError as error:
            log.error("%s: %s continues to serve; the new bundle was rejected: %s", name, before, error)
            return Change(name, before, before, str(error))

    async def _repair(self, name: str, slot: ModelSlot) -> None:
        broken = slot.current

        def is_broken() -> bool:
            return slot.current is broken and self._is_failing(slot)

        while is_broken():
            log.error("%s: %d model calls in a row failed; rebuilding its engine", name, slot.failures)
            async with self._reloading:
                if slot.current is broken:
                    await self._rebuild(name, slot, broken)
            if is_broken():
                await asyncio.sleep(self._limits.rebuild_interval)

    async def _rebuild(self, name: str, slot: ModelSlot, broken: Model) -> None:
        try:
            fresh = await self._load_in_thread(slot.path)
        except Exception as error:  # the cause of the failure may also break loading, in any way
            reason = error if isinstance(error, PrelabelError) else type(error).__name__
            log.error("%s: cannot rebuild its engine: %s", name, reason)
            return
        if fresh.bundle.version != broken.bundle.version:
            fresh.engine.close()
            log.error(
                "%s: cannot rebuild its engine, because its folder now has %s; load that with POST "
                "/admin/reload or SIGHUP",
                name,
                fresh.bundle.version,
            )
            return
        # the broken engine is not closed: a call may hang in it
        slot.current, slot.failures = fresh, 0
        self._refresh()
        self.on_health_change()
        log.warning("%s: its engine was rebuilt", name)

    async def _load_in_thread(self, path: Path) -> Model:
        """Load in a thread of its own, because loading can hang. Raises BadBundle, BadSetting."""
        thread = EngineThread("load")
        thread.start()
        try:
            async with asyncio.timeout(self._limits.load_timeout):
                return await thread.call(lambda: self._load(path))
        except TimeoutError:
            raise BadBundle(
                f"{path}: loading the bundle took more than {self._limits.load_timeout:g} s; check the host "
                "and try again."
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
        """Raises BadSetting, and changes nothing, if the fresh model does not fit into an ensemble."""
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
        self._current_learned = {key: Ensemble.of_one(slot.current) for key, slot in self._learned.items()}


def load_registry(settings: Settings, load: Load, limits: FaultLimits) -> Registry:
    """Load every bundle of `settings`. Raises BadBundle, BadSetting."""
    slots = {name: ModelSlot(path, load(path)) for name, path in settings.bundles.items()}
    return Registry(slots, settings.ensemble, load, limits)
