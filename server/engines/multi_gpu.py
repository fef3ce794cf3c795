"""One model on several GPUs: an engine each, and every call goes to the one that has waited longest for work."""

from collections.abc import Sequence
from queue import SimpleQueue

from server.arrays import Floats, Ids
from server.engines.base import Engine
from server.engines.devices import IN_FLIGHT


class MultiGpuEngine:
    """Engines of the same kind, at least one. A slower one gets fewer calls, for its turns come back later."""

    degraded: str | None = None

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)
        self._turns: SimpleQueue[Engine] = SimpleQueue()
        for engine in IN_FLIGHT * self._engines:
            self._turns.put(engine)
        self.name = engines[0].name
        self.device = ",".join(engine.device for engine in engines)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        engine = self._turns.get()
        try:
            return engine.run(ids, lengths)
        finally:
            self._turns.put(engine)

    def close(self) -> None:
        for engine in self._engines:
            engine.close()
