"""Parsed labeling configs, each parsed once and off the event loop."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from server.errors import BadLabelConfig, Overloaded
from server.label_studio.labeling_config import LabelingPlan

Key = tuple[str, tuple[str, ...]]
Parse = asyncio.Task[LabelingPlan | BadLabelConfig]

MAX_PARSES = 16
"""Configs that are parsed at once. A parse goes on after its client has gone, so slots do not bound them."""

Read = Callable[[str, tuple[str, ...]], LabelingPlan]
"""A labeling config and a model's labels → the plan. Raises BadLabelConfig."""


class PlanCache:
    """Plans by config and labels; the least recently used of `size` is evicted.

    Concurrent requests for a new config wait for one parse of it. A refused config is cached too: Label
    Studio sends it again with each request.
    """

    def __init__(self, read: Read, size: int = 256) -> None:
        self._read = read
        self._size = size
        self._plans: OrderedDict[Key, Parse] = OrderedDict()

    async def plan(self, config: str, labels: tuple[str, ...]) -> LabelingPlan:
        """Raises BadLabelConfig, Overloaded."""
        key = (config, labels)
        task = self._plans.get(key)
        if task is None:
            task = self._start(key)
        else:
            self._plans.move_to_end(key)
        # a parse goes on when this caller leaves: others may wait for it
        found = task.result() if task.done() else await asyncio.shield(task)
        if isinstance(found, BadLabelConfig):
            raise BadLabelConfig(*found.args)
        return found

    def _start(self, key: Key) -> Parse:
        def forget_failure(task: Parse) -> None:
            if task.cancelled() or task.exception() is not None:
                self._plans.pop(key, None)

        if sum(not task.done() for task in self._plans.values()) >= MAX_PARSES:
            raise Overloaded(f"{MAX_PARSES} new labeling configs are being parsed; retry later.")
        task = self._plans[key] = asyncio.create_task(asyncio.to_thread(self._try, *key))
        task.add_done_callback(forget_failure)
        if len(self._plans) > self._size:
            self._plans.popitem(last=False)
        return task

    def _try(self, config: str, labels: tuple[str, ...]) -> LabelingPlan | BadLabelConfig:
        try:
            return self._read(config, labels)
        except BadLabelConfig as problem:
            return BadLabelConfig(*problem.args)  # its traceback would keep the parser's memory
