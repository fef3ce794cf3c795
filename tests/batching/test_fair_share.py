"""Start-time fair queueing: shares of keys that compete, debts of idle keys, and memory."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.batching.fair_share import FairShare

KEYS = ("a", "b", "c")
MAX_COST = 64


def run_next(shares: FairShare[str], keys: tuple[str, ...], cost: float) -> str:
    key = shares.choose(keys)
    shares.charge(key, cost)
    return key


def test_the_key_with_the_smallest_total_runs_next() -> None:
    shares: FairShare[str] = FairShare()
    shares.activate("a")
    shares.activate("b")
    order = []
    for _ in range(6):
        key = shares.choose(("a", "b"))
        shares.charge(key, 2.0 if key == "a" else 1.0)
        order.append(key)
    assert order == ["a", "b", "b", "a", "b", "b"]


def test_idle_time_earns_no_credit() -> None:
    shares: FairShare[str] = FairShare()
    shares.activate("busy")
    for _ in range(100):
        shares.charge("busy", 1.0)
    shares.activate("late")
    turns = Counter(run_next(shares, ("busy", "late"), 1.0) for _ in range(10))
    assert turns["late"] in (5, 6)


def test_activating_an_active_key_changes_nothing() -> None:
    shares: FairShare[str] = FairShare()
    shares.activate("a")
    shares.activate("b")
    shares.charge("a", 5.0)
    shares.activate("a")
    assert shares.choose(("a", "b")) == "b"


def test_a_key_that_goes_idle_after_each_batch_keeps_its_debt() -> None:
    """The queue of "large" runs empty after each batch and has a new one before the next decision."""
    shares: FairShare[str] = FairShare()
    shares.activate("small")
    totals = Counter[str]()
    for _ in range(1000):
        shares.activate("large")
        key = shares.choose(("large", "small"))
        cost = 4000 if key == "large" else 32
        shares.charge(key, cost)
        totals[key] += cost
        shares.deactivate("large")
    assert abs(totals["large"] - totals["small"]) <= 4000 + 32


def test_debts_remain_when_every_key_is_idle() -> None:
    shares: FairShare[str] = FairShare()
    for key, cost in (("a", 10.0), ("b", 30.0)):
        shares.activate(key)
        shares.charge(key, cost)
    shares.deactivate("a")
    shares.deactivate("b")
    shares.activate("b")
    shares.activate("a")
    assert [run_next(shares, ("b", "a"), 10.0) for _ in range(4)] == ["a", "a", "b", "a"]


@given(st.lists(st.tuples(st.integers(1, MAX_COST), st.booleans()), max_size=200), st.integers(0, 200))
def test_keys_that_compete_get_equal_shares_in_every_interval(
    batches: list[tuple[int, bool]], begin: int
) -> None:
    """Whatever a batch costs, and whether it was the last of its queue, which fills again at once."""
    shares: FairShare[str] = FairShare()
    totals = Counter[str]()
    for number, (cost, was_last) in enumerate(batches):
        for key in KEYS:
            shares.activate(key)
        key = run_next(shares, KEYS, cost)
        if number >= begin:
            totals[key] += cost
        if was_last:
            shares.deactivate(key)
    assert max(totals[key] for key in KEYS) - min(totals[key] for key in KEYS) <= 2 * MAX_COST


@given(st.lists(st.integers(1, MAX_COST), max_size=100), st.booleans())
def test_a_key_that_used_idle_capacity_owes_no_more_than_one_batch(costs: list[int], others: bool) -> None:
    """Alone, or in rounds in which every key runs all that it has."""
    shares: FairShare[str] = FairShare()
    for cost in costs:
        round_ = KEYS if others else KEYS[:1]
        for key in round_:
            shares.activate(key)
        for key in sorted(round_, reverse=True):
            shares.charge(key, cost if key == "a" else 1)
            shares.deactivate(key)
    for key in KEYS:
        shares.activate(key)
    before_a = 0
    while (key := run_next(shares, KEYS, 1)) != "a":
        before_a += 1
    assert before_a <= 2 * MAX_COST


@given(
    st.lists(
        st.tuples(
            st.sampled_from(KEYS), st.sampled_from(("activate", "deactivate", "run")), st.integers(1, 64)
        )
    )
)
def test_a_key_that_stays_active_waits_for_a_bounded_cost_of_each_other_key(
    events: list[tuple[str, str, int]],
) -> None:
    """Keys come and go in any order; "x" is active throughout."""
    shares: FairShare[str] = FairShare()
    shares.activate("x")
    active = {"x"}
    since_x = Counter[str]()
    for key, event, cost in events:
        if event == "activate":
            shares.activate(key)
            active.add(key)
        elif event == "deactivate":
            shares.deactivate(key)
            active.discard(key)
        else:
            ran = run_next(shares, tuple(sorted(active)), cost)
            if ran == "x":
                since_x.clear()
            else:
                since_x[ran] += cost
        assert all(total <= 2 * MAX_COST for total in since_x.values())


@given(st.lists(st.tuples(st.integers(1, 64), st.booleans()), max_size=300))
def test_memory_is_bounded_by_the_keys_that_compete(batches: list[tuple[int, bool]]) -> None:
    """Each batch belongs to a new model that never returns, such as after a reload; another model stays."""
    shares: FairShare[object] = FairShare()
    for cost, stays in batches:
        new = object()
        if stays:
            shares.activate("stays")
        shares.activate(new)
        for key in (new, "stays") if stays else (new,):
            shares.charge(key, cost)
            shares.deactivate(key)
        assert shares.tags <= MAX_COST


def test_a_model_that_never_returns_is_forgotten() -> None:
    shares: FairShare[object] = FairShare()
    shares.activate("old")
    shares.activate("new")
    shares.charge("old", 100.0)
    shares.deactivate("old")
    assert shares.tags == 2
    for _ in range(102):
        shares.charge("new", 1.0)
    assert shares.tags == 1
