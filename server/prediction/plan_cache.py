"""Parsed labeling configs, each parsed once and off the event loop."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from server.errors import BadLabelConfig
from server.label_studio.labeling_config import LabelingPlan
from server.prediction.parse_thread import Parse, ParseThread

Key = tuple[str, tuple[str, ...]]
Found = LabelingPlan | BadLabelConfig
T = TypeVar("T")

Read = Callable[[str, tuple[str, ...]], LabelingPlan]
"""A labeling config and a model's labels → the plan. Raises BadLabelConfig."""


class PlanCache:
    """Plans by config and labels; the least recently used of `size` is evicted.

    Concurrent requests for a new config wait for one parse of it. A refused config is remembered too, because
    Label Studio sends it again with each request; the last `refused` of them, apart from the plans, so that
    they evict no project's plan.
    """

    def __init__(self, read: Read, thread: ParseThread, size: int = 256, refused: int = 32) -> None:
        self._read = read
        self._thread = thread
        self._plans = _Recent[LabelingPlan](size)
        self._refused = _Recent[BadLabelConfig](refused)
        self._parses: dict[Key, Parse[Found]] = {}

    async def plan(self, config: str, labels: tuple[str, ...]) -> LabelingPlan:
        """Raises BadLabelConfig, Overloaded."""
        key = (config, labels)
        found = self._plans.use(key) or self._refused.use(key) or await self._parsed(key)
        if isinstance(found, BadLabelConfig):
            raise BadLabelConfig(*found.args)
        return found

    async def _parsed(self, key: Key) -> Found:
        parse = self._parses.get(key)
        if parse is None:
            parse = self._parses[key] = self._thread.start(partial(self._try, *key))
            parse.task.add_done_callback(partial(self._finish, key))
        try:
            return await parse.result()
        finally:
            if parse.is_unwanted:
                del self._parses[key]  # at once: who comes next starts another
                parse.task.cancel()

    def _finish(self, key: Key, task: asyncio.Task[Found]) -> None:
        if task.cancelled():
            return
        del self._parses[key]
        if task.exception() is not None:
            return
        found = task.result()
        if isinstance(found, BadLabelConfig):
            self._refused.put(key, found)
        else:
            self._plans.put(key, found)

    def _try(self, config: str, labels: tuple[str, ...]) -> Found:
        try:
            return self._read(config, labels)
        except BadLabelConfig as problem:
            return BadLabelConfig(*problem.args)  # its traceback would keep the parser's memory


class _Recent(OrderedDict[Key, T]):
    """The most recently used entries, `size` of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def use(self, key: Key) -> T | None:
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def put(self, key: Key, value: T) -> None:
        self[key] = value
        if len(self) > self._size:
            self.popitem(last=False)
