"""One model on several GPUs: one engine on each, calls spread by availability."""

from collections.abc import Sequence
from queue import SimpleQueue

from server.arrays import Floats, Ids
from server.engines.base import Engine
from server.engines.devices import IN_FLIGHT


class MultiGpuEngine:
    """Each call takes the engine whose call slot has been free longest, so a slower GPU gets fewer calls.

    The engines are of the same kind; there is at least one.
    """

    degraded: str | None = None

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)
        self._free: SimpleQueue[Engine] = SimpleQueue()
        for engine in IN_FLIGHT * self._engines:
            self._free.put(engine)
        self.name = engines[0].name
        self.device = ",".join(engine.device for engine in engines)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        engine = self._free.get()
        try:
            return engine.run(ids, lengths)
        finally:
            self._free.put(engine)

    def close(self) -> None:
        for engine in self._engines:
            engine.close()
