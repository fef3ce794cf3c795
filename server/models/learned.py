"""Keeps the learned models of projects as the store says: loads new ones, and drops those taken back."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from server.errors import PrelabelError
from server.learning.forget import models_of
from server.learning.store import LearningProject, LearningStore
from server.models.registry import Key, Registry
from server.threads import in_thread

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the store, which another process writes."""


class LearnedModels:
    """The learned models of `registry`, from `store` and the bundles in `folder`."""

    def __init__(self, store: LearningStore, registry: Registry, folder: Path) -> None:
        self._store = store
        self._registry = registry
        self._folder = folder
        self._versions: dict[Key, str] = {}
        """What each project's registry entry has; a version that could not be loaded is not tried again."""
        self._learning: set[str] = set()
        self._following = asyncio.Lock()

    def learns(self, project: str) -> bool:
        """Whether the project of this name learns, as of the last look at the store."""
        return project in self._learning

    async def watch(self) -> None:
        """Follow the store until cancelled."""
        while True:
            try:
                await self.follow()
            except PrelabelError as error:
                log.error("the learned models cannot be read: %s", error)
            await asyncio.sleep(INTERVAL)

    async def follow(self) -> None:
        """Make the registry serve what the store says now. Raises Unavailable."""
        async with self._following:
            await self._follow([each for each in await in_thread(self._store.projects) if each.learns])

    async def _follow(self, projects: Sequence[LearningProject]) -> None:
        self._learning = {project.name for project in projects}
        wanted = {
            (project.model, project.name): project
            for project in projects
            if project.served and project.model in self._registry.names
        }
        for key in self._versions.keys() - wanted.keys():
            self._registry.drop_learned(*key)
            del self._versions[key]
        for key, project in wanted.items():
            if self._versions.get(key) != project.served:
                self._versions[key] = project.served
                await self._serve(key, project)

    async def _serve(self, key: Key, project: LearningProject) -> None:
        try:
            path = models_of(self._folder, project.id) / project.served
            await self._registry.serve_learned(*key, path)
        except PrelabelError as error:
            log.error("project %s: its learned model cannot be served: %s", project.name, error)
