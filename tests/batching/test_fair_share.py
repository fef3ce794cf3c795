"""Whose turn it is."""

from server.batching.fair_share import FairShare


def test_whoever_has_used_least_goes_next() -> None:
    shares: FairShare[str] = FairShare()
    for key in ("a", "b"):
        shares.arrive(key)
    order = []
    for _ in range(6):
        key = shares.choose(("a", "b"))
        shares.charge(key, 2.0 if key == "a" else 1.0)
        order.append(key)
    assert order == ["a", "b", "b", "a", "b", "b"]


def test_having_been_idle_earns_no_lead() -> None:
    shares: FairShare[str] = FairShare()
    shares.arrive("busy")
    for _ in range(100):
        shares.charge("busy", 1.0)
    shares.arrive("late")
    turns = []
    for _ in range(10):
        key = shares.choose(("busy", "late"))
        shares.charge(key, 1.0)
        turns.append(key)
    assert turns.count("late") in (5, 6)


def test_arriving_twice_changes_nothing_and_whoever_left_begins_anew() -> None:
    shares: FairShare[str] = FairShare()
    for key in ("a", "b"):
        shares.arrive(key)
    shares.charge("a", 5.0)
    shares.arrive("a")
    assert shares.choose(("a", "b")) == "b"
    shares.leave("b")
    shares.arrive("b")
    assert shares.choose(("b", "a")) == "b"
