"""Which model answers under which name, and how a new one takes its place without dropping a request.

A slot holds the model in use and the one before it. A reload loads and checks beside it, in a thread, and then swaps: requests
that have begun keep the model they began with, later ones get the new one. A bundle that fails leaves everything as it was.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.errors import BadRequest, PrelabelError
from server.models import Ensemble, Model
from server.settings import EnsembleSetting

log = logging.getLogger(__name__)

Load = Callable[[Path], Model]
"""A bundle's folder → the model, ready. Blocks. Raises BadBundle, BadSetting."""


@dataclass
class Slot:
    """A bundle's folder, the model in use, and the one it replaced."""

    path: Path
    current: Model
    previous: Model | None = None


@dataclass(frozen=True)
class Change:
    """What a reload or rollback did to one name; `error` says why nothing was changed."""

    name: str
    version: str
    before: str
    error: str | None = None


class Registry:
    """`slots` by name, the first being the default; ensembles of them. Raises BadSetting for an ensemble that cannot be."""

    def __init__(self, slots: Mapping[str, Slot], ensembles: Sequence[EnsembleSetting], load: Load) -> None:
        self.slots = dict(slots)
        self._load = load
        self._reloading = asyncio.Lock()
        self._ensembles = ensembles
        self._current: dict[str, Ensemble] = {}
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
        """Put back what the last reload replaced; once more puts it back again. Raises BadRequest for a name that is not served."""
        async with self._reloading:
            return [self._roll_back(each) for each in self._chosen(name)]

    def close(self) -> None:
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
            fresh = await asyncio.to_thread(self._load, slot.path)
            if fresh.bundle.version == before:
                fresh.engine.close()
                return Change(name, before, before)
            return self._swap(name, fresh)
        except PrelabelError as error:
            log.error("%s: %s goes on serving, the new bundle was refused: %s", name, before, error)
            return Change(name, before, before, str(error))

    def _roll_back(self, name: str) -> Change:
        slot = self.slots[name]
        version = slot.current.bundle.version
        if slot.previous is None:
            return Change(name, version, version, "There is nothing to go back to: no reload has replaced a model since the start.")
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
        log.info("%s: %s serves now, %s is kept for a rollback", name, fresh.bundle.version, before.bundle.version)
        return Change(name, fresh.bundle.version, before.bundle.version)

    def _refresh(self) -> None:
        current = {name: Ensemble.of_one(slot.current) for name, slot in self.slots.items()}
        for setting in self._ensembles:
            current[setting.name] = Ensemble.of_several(setting.name, [self.slots[member].current for member in setting.members], setting.weights)
        self._current = current
