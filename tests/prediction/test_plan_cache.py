"""Labeling configs are parsed once, in a thread, for all requests that wait for them."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from server.errors import BadLabelConfig, Overloaded
from server.label_studio.labeling_config import TUTORIAL_CONFIG, LabelingPlan, read_plan
from server.prediction.plan_cache import MAX_PARSES, PlanCache

LABELS = ("Negative", "Positive")
PLAN = read_plan(TUTORIAL_CONFIG, LABELS, {})


class Reader:
    """Counts its calls by config, and waits in each for `resume`."""

    def __init__(self, result: Callable[[str], LabelingPlan] = lambda _: PLAN) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.resume = threading.Event()
        self._result = result

    def __call__(self, config: str, labels: tuple[str, ...]) -> LabelingPlan:
        self.calls.append(config)
        self.threads.add(threading.get_ident())
        self.resume.wait()
        return self._result(config)


def refuse(config: str) -> LabelingPlan:
    raise BadLabelConfig(f"{config} is wrong.")


@pytest.mark.anyio
async def test_concurrent_requests_for_a_new_config_wait_for_one_parse_in_a_thread() -> None:
    reader = Reader()
    cache = PlanCache(reader)
    waiting = [asyncio.create_task(cache.plan("a", LABELS)) for _ in range(3)]
    await asyncio.sleep(0)
    reader.resume.set()
    assert await asyncio.gather(*waiting) == [PLAN] * 3
    assert await cache.plan("a", LABELS) is PLAN
    assert reader.calls == ["a"]
    assert threading.get_ident() not in reader.threads


@pytest.mark.anyio
async def test_a_client_that_leaves_does_not_end_the_parse_for_others() -> None:
    reader = Reader()
    cache = PlanCache(reader)
    leaves, stays = (asyncio.create_task(cache.plan("a", LABELS)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    reader.resume.set()
    assert await stays is PLAN
    assert reader.calls == ["a"]


@pytest.mark.anyio
async def test_an_error_is_cached_and_each_request_gets_its_own() -> None:
    reader = Reader(refuse)
    reader.resume.set()
    cache = PlanCache(reader)
    errors = []
    for _ in range(2):
        with pytest.raises(BadLabelConfig, match="a is wrong") as error:
            await cache.plan("a", LABELS)
        errors.append(error.value)
    assert errors[0] is not errors[1]
    assert reader.calls == ["a"]


@pytest.mark.anyio
async def test_an_unexpected_error_is_not_cached() -> None:
    def fail(config: str) -> LabelingPlan:
        raise MemoryError

    reader = Reader(fail)
    reader.resume.set()
    cache = PlanCache(reader)
    for _ in range(2):
        with pytest.raises(MemoryError):
            await cache.plan("a", LABELS)
    assert reader.calls == ["a", "a"]


@pytest.mark.anyio
async def test_the_least_recently_used_plan_is_evicted_and_labels_count() -> None:
    reader = Reader()
    reader.resume.set()
    cache = PlanCache(reader, size=2)
    for config in ("a", "b", "a", "c", "a", "b"):
        await cache.plan(config, LABELS)
    await cache.plan("b", LABELS[::-1])
    assert reader.calls == ["a", "b", "c", "b", "b"]


@pytest.mark.anyio
async def test_parses_are_bounded_also_those_whose_clients_have_gone() -> None:
    reader = Reader()
    cache = PlanCache(reader)
    waiting = [asyncio.create_task(cache.plan(str(number), LABELS)) for number in range(MAX_PARSES)]
    await asyncio.sleep(0)
    for client in waiting:
        client.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    with pytest.raises(Overloaded, match="new labeling configs are being parsed"):
        await cache.plan("one more", LABELS)
    reader.resume.set()
    assert await cache.plan("0", LABELS) is PLAN
    assert await cache.plan(str(MAX_PARSES - 1), LABELS) is PLAN
    assert await cache.plan("one more", LABELS) is PLAN
