"""Admission of rows: whole requests, a limit per model, and no capacity that leaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.arrays import RunBatch
from server.batching.buckets import Priority
from server.batching.queue_stats import PriorityStats
from server.batching.row_admission import RowAdmission
from server.errors import Overloaded, RequestTooLarge
from tests.batching.test_batcher import echo, failing

LIMIT = 10

requests = st.tuples(
    st.integers(0, LIMIT + 3), st.sampled_from(Priority), st.sampled_from((echo, failing)), st.booleans()
)


@given(st.lists(requests, max_size=40))
def test_the_limit_holds_per_model_and_every_row_leaves(
    requests: list[tuple[int, Priority, RunBatch, bool]],
) -> None:
    admission = RowAdmission(LIMIT)
    in_flight: dict[int, tuple[int, RunBatch]] = {}
    for key, (rows, priority, run_batch, oldest_leaves) in enumerate(requests):
        waiting = sum(each for each, other in in_flight.values() if other is run_batch)
        try:
            admission.enter(key, rows, priority, run_batch, now=0.0)
        except RequestTooLarge:
            assert rows > LIMIT
        except Overloaded:
            assert rows <= LIMIT < waiting + rows
        else:
            assert waiting + rows <= LIMIT
            in_flight[key] = rows, run_batch
        assert admission.waiting_rows == sum(rows for rows, _ in in_flight.values())
        if oldest_leaves and in_flight:
            oldest = next(iter(in_flight))
            admission.leave(oldest)
            del in_flight[oldest]
    for key in in_flight:
        stats = admission.leave(key)
    assert admission.waiting_rows == 0
    assert not in_flight or stats == PriorityStats()


def test_the_error_for_a_request_that_can_never_fit_names_the_setting_and_the_remedy() -> None:
    admission = RowAdmission(LIMIT)
    with pytest.raises(
        RequestTooLarge, match=r"11 texts.*limit is 10 \(PRELABEL_MAX_WAITING_ROWS\)\. Send fewer"
    ):
        admission.enter("a", 11, Priority.BULK, echo, 0.0)
    admission.enter("a", 10, Priority.BULK, echo, 0.0)
    with pytest.raises(Overloaded, match="10 texts are waiting and 1 more"):
        admission.enter("b", 1, Priority.BULK, echo, 0.0)
    admission.enter("b", 1, Priority.BULK, failing, 0.0)
