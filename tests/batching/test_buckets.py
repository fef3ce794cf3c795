"""The batching policy: properties over random arrivals and pops."""

from dataclasses import dataclass
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from server.batching.buckets import Batch, Buckets, Priority

LENGTHS = (4, 8, 16)
BUDGET = 32


@dataclass(eq=False)
class Waiting:
    length: int
    priority: Priority
    abandoned: bool = False
    group: str = "model"

    @property
    def token_cost(self) -> int:
        return 3 if self.group == "other" else 1


rows = st.builds(
    Waiting, st.integers(1, 40), st.sampled_from(Priority), st.booleans(), st.sampled_from(("model", "other"))
)
steps = st.lists(st.one_of(rows, st.none(), st.just("interactive")), max_size=60)
Steps = list[Waiting | Literal["interactive"] | None]


def buckets(max_wait: float = 0.0, bulk_patience: int = 3) -> Buckets[Waiting]:
    return Buckets(LENGTHS, budget=BUDGET, max_wait=max_wait, bulk_patience=bulk_patience)


def drain(waiting: Buckets[Waiting], now: float) -> list[Batch[Waiting]]:
    batches = []
    while (batch := waiting.pop(now)) is not None:
        batches.append(batch)
    return batches


def run(steps: Steps) -> list[Batch[Waiting]]:
    """Put each row, pop once at each None, an interactive batch at each "interactive", then drain."""
    waiting, batches = buckets(), list[Batch[Waiting]]()
    for now, step in enumerate(steps):
        if isinstance(step, Waiting):
            waiting.put(step, now)
        elif step == "interactive":
            if (batch := waiting.pop_interactive(now)) is not None:
                assert batch.rows[0].priority is Priority.INTERACTIVE
                batches.append(batch)
        elif (batch := waiting.pop(now)) is not None:
            batches.append(batch)
    return batches + drain(waiting, len(steps))


@given(steps)
def test_no_row_is_lost_or_run_twice(steps: Steps) -> None:
    given_rows = [step for step in steps if isinstance(step, Waiting) and not step.abandoned]
    popped = [row for batch in run(steps) for row in batch.rows]
    assert sorted(map(id, popped)) == sorted(map(id, given_rows))


@given(steps)
def test_a_batch_keeps_the_budget_and_mixes_neither_priorities_nor_buckets(steps: Steps) -> None:
    for batch in run(steps):
        assert batch.rows
        assert len({(row.priority, row.group) for row in batch.rows}) == 1
        assert all(row.length <= batch.length for row in batch.rows)
        cost = len(batch.rows) * batch.length * batch.rows[0].token_cost
        assert cost <= BUDGET or len(batch.rows) == 1
        if batch.length in LENGTHS:
            shorter = [length for length in LENGTHS if length < batch.length]
            assert all(not shorter or row.length > shorter[-1] for row in batch.rows)
        else:
            assert len(batch.rows) == 1


@given(steps)
def test_rows_of_one_priority_and_bucket_keep_their_order(steps: Steps) -> None:
    arrival = {id(step): index for index, step in enumerate(steps)}
    seen: dict[tuple[str, Priority, int], int] = {}
    for batch in run(steps):
        for row in batch.rows:
            key = (
                row.group,
                row.priority,
                next((i for i, length in enumerate(LENGTHS) if row.length <= length), len(LENGTHS)),
            )
            assert seen.get(key, -1) < arrival[id(row)]
            seen[key] = arrival[id(row)]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=40))
def test_bulk_never_starves(arrivals: list[tuple[int, int]]) -> None:
    """Interactive rows keep coming faster than they are served; a bulk row is served after at most
    `bulk_patience` batches.
    """
    waiting = buckets(bulk_patience=3)
    waiting.put(Waiting(5, Priority.BULK), 0)
    for passed, (length, more) in enumerate(arrivals):
        for _ in range(more + 1):
            waiting.put(Waiting(length, Priority.INTERACTIVE), passed)
        batch = waiting.pop(passed)
        assert batch is not None
        if batch.rows[0].priority is Priority.BULK:
            assert passed == 3
            return
    assert len(arrivals) <= 3


def test_interactive_rows_go_first_and_within_a_priority_the_oldest_head() -> None:
    waiting = buckets()
    bulk, late, early = (
        Waiting(3, Priority.BULK),
        Waiting(3, Priority.INTERACTIVE),
        Waiting(9, Priority.INTERACTIVE),
    )
    for now, row in enumerate((bulk, early, late)):
        waiting.put(row, now)
    assert [batch.rows for batch in drain(waiting, 3)] == [(early,), (late,), (bulk,)]


def test_a_row_waits_for_others_but_not_longer_than_max_wait() -> None:
    waiting = buckets(max_wait=1.0)
    waiting.put(Waiting(16, Priority.BULK), 10.0)
    assert waiting.pop(10.5) is None
    assert waiting.next_due() == 11.0
    assert waiting.pop(11.0) is not None
    assert waiting.next_due() is None
    waiting.put(Waiting(16, Priority.BULK), 20.0)
    waiting.put(Waiting(16, Priority.BULK), 20.0)
    full = waiting.pop(20.0)
    assert full is not None
    assert len(full.rows) == 2


def test_the_next_due_time_of_a_priority_ignores_the_others() -> None:
    waiting = buckets(max_wait=1.0)
    waiting.put(Waiting(3, Priority.BULK), 10.0)
    waiting.put(Waiting(3, Priority.INTERACTIVE), 12.0)
    assert waiting.next_due() == waiting.next_due([Priority.BULK]) == 11.0
    assert waiting.next_due([Priority.INTERACTIVE]) == 13.0
    assert waiting.next_due([]) is None


@given(st.integers(17, 10_000))
def test_a_row_longer_than_every_bucket_goes_alone_at_its_own_length(length: int) -> None:
    waiting = buckets()
    waiting.put(Waiting(length, Priority.BULK), 0)
    waiting.put(Waiting(length, Priority.BULK), 0)
    assert [(len(batch.rows), batch.length) for batch in drain(waiting, 0)] == [(1, length)] * 2


def test_a_busy_model_does_not_starve_another() -> None:
    """One model has a hundred batches waiting. Rows of another come one at a time, and each waits for at most
    one of those batches.
    """
    waiting = buckets()
    for _ in range(200):
        waiting.put(Waiting(16, Priority.BULK, group="busy"), 0)
    for now in range(1, 20):
        waiting.put(Waiting(16, Priority.BULK, group="quiet"), now)
        served = [waiting.pop(now), waiting.pop(now)]
        assert any(batch is not None and batch.rows[0].group == "quiet" for batch in served)


def test_a_model_whose_queue_runs_empty_after_each_batch_gets_no_more_than_its_share() -> None:
    waiting = buckets()
    used = {"full batches": 0, "single rows": 0}
    group = "full batches"
    for now in range(400):
        if group == "full batches":
            waiting.put(Waiting(16, Priority.BULK, group=group), now)
            waiting.put(Waiting(16, Priority.BULK, group=group), now)
        waiting.put(Waiting(4, Priority.BULK, group="single rows"), now)
        batch = waiting.pop(now)
        assert batch is not None
        group = batch.rows[0].group
        used[group] += len(batch.rows) * batch.length
    assert abs(used["full batches"] - used["single rows"]) <= 2 * BUDGET


@given(st.lists(st.tuples(st.sampled_from(("a", "b", "c")), st.integers(1, 16)), min_size=1, max_size=80))
def test_models_that_always_have_rows_get_equal_shares(order: list[tuple[str, int]]) -> None:
    """Whatever the order and the lengths of their rows."""
    waiting = buckets()
    for group, length in [*order, *((group, 16) for group in ("a", "b", "c") for _ in range(100))]:
        waiting.put(Waiting(length, Priority.BULK, group=group), 0)
    used = dict.fromkeys(("a", "b", "c"), 0)
    for _ in range(30):
        batch = waiting.pop(1)
        assert batch is not None
        used[batch.rows[0].group] += len(batch.rows) * batch.length
        assert max(used.values()) - min(used.values()) <= BUDGET
