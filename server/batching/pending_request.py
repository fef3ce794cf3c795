"""The rows of one request on their way through the queue, and what comes back for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from server.arrays import Bools, Floats, Ids, RunBatch
from server.batching.buckets import Priority
from server.errors import EngineFailed, PrelabelError


@dataclass(frozen=True)
class RequestResult:
    """Results for the rows of one `submit`, in their order.

    `probabilities` float32[rows, classes]. `answered` bool[rows] is False where the model call failed;
    `failure` is then the reason. `waited`: seconds from arrival to model call, mean of the answered rows.
    `engine`: seconds of model calls, the share of these rows.
    """

    probabilities: Floats
    answered: Bools
    failure: PrelabelError | None
    waited: float
    engine: float


@dataclass(frozen=True)
class BatchOutput:
    """Result of a model call: float32[rows, classes], and its start and end on the batcher's clock in
    seconds.
    """

    probabilities: Floats
    started: float
    ended: float


@dataclass(eq=False, slots=True)
class PendingRequest:
    """The rows of one `submit`: the future that its caller awaits, and the results so far."""

    future: "asyncio.Future[RequestResult]"
    rows: int
    arrived: float
    missing: int = field(init=False)
    answered: Bools = field(init=False)
    probabilities: Floats | None = None
    failure: BaseException | None = None
    waited: float = 0.0
    engine: float = 0.0

    def __post_init__(self) -> None:
        self.missing = self.rows
        self.answered = np.zeros(self.rows, dtype=np.bool_)

    def add(self, indices: Sequence[int], output: BatchOutput, positions: Sequence[int]) -> None:
        """The rows `indices` of this request were the rows `positions` of a batch with this output. The last
        rows complete the request.
        """
        rows, classes = output.probabilities.shape
        if self.probabilities is None:
            self.probabilities = np.zeros((self.rows, classes), dtype=np.float32)
        if self.probabilities.shape[1] != classes:
            expected = self.probabilities.shape[1]
            error = f"The engine returned {classes} probabilities per text after {expected} for others."
            self.fail(len(indices), EngineFailed(error))
            return
        self.probabilities[indices] = output.probabilities[positions]
        self.answered[indices] = True
        self.waited += len(indices) * (output.started - self.arrived)
        self.engine += len(indices) / rows * (output.ended - output.started)
        self._settle(len(indices))

    def fail(self, rows: int, failure: BaseException) -> None:
        """The model call of this many rows failed. The last rows complete the request."""
        self.failure = failure
        self._settle(rows)

    def _settle(self, rows: int) -> None:
        self.missing -= rows
        if self.missing > 0:
            return
        probabilities = self.probabilities
        if probabilities is None:
            probabilities = np.zeros((self.rows, 0), dtype=np.float32)
        failure = _for_caller(self.failure) if self.failure is not None else None
        waited = self.waited / self.rows
        self.future.set_result(RequestResult(probabilities, self.answered, failure, waited, self.engine))


@dataclass(eq=False, slots=True)
class QueueEntry:
    """One text in the queue: row `index` of its request. Its `group` is the model that runs it."""

    ids: Ids
    priority: Priority
    group: RunBatch
    request: PendingRequest
    index: int
    token_cost: int = 1

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def abandoned(self) -> bool:
        return self.request.future.done()


def _for_caller(failure: BaseException) -> EngineFailed:
    """A new exception per caller, so that tracebacks of several requests do not grow on one object."""
    if isinstance(failure, PrelabelError):
        return EngineFailed(str(failure))
    return EngineFailed(f"The model call failed with {type(failure).__name__}; see the server log.")
