"""Labeling configs are parsed once, in a thread, for all requests that wait for them."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.bundle import Bundle
from server.errors import BadLabelConfig, Overloaded
from server.label_studio.labeling_config import TUTORIAL_CONFIG, LabelingPlan, read_plan
from server.prediction.parse_thread import MAX_PARSES, ParseThread
from server.prediction.plan_cache import PlanCache
from tests.launch.test_signals import PATIENCE
from tests.serving import running, set_up

LABELS = ("Negative", "Positive")
PLAN = read_plan(TUTORIAL_CONFIG, LABELS, {})


class Reader:
    """Counts its calls by config, and waits in each for `resume`."""

    def __init__(self, result: Callable[[str], LabelingPlan] = lambda _: PLAN) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.begun = threading.Event()
        self.resume = threading.Event()
        self._result = result

    def __call__(self, config: str, labels: tuple[str, ...]) -> LabelingPlan:
        self.calls.append(config)
        self.threads.add(threading.get_ident())
        self.begun.set()
        self.resume.wait()
        return self._result(config)


@pytest.fixture
def thread() -> Iterator[ParseThread]:
    opened = ParseThread()
    yield opened
    opened.close()


def refuse(config: str) -> LabelingPlan:
    raise BadLabelConfig(f"{config} is wrong.")


@pytest.mark.anyio
async def test_concurrent_requests_for_a_new_config_wait_for_one_parse_in_a_thread(
    thread: ParseThread,
) -> None:
    reader = Reader()
    cache = PlanCache(reader, thread)
    waiting = [asyncio.create_task(cache.plan("a", LABELS)) for _ in range(3)]
    await asyncio.sleep(0)
    reader.resume.set()
    assert await asyncio.gather(*waiting) == [PLAN] * 3
    assert await cache.plan("a", LABELS) is PLAN
    assert reader.calls == ["a"]
    assert threading.get_ident() not in reader.threads


@pytest.mark.anyio
async def test_a_client_that_leaves_does_not_end_the_parse_for_others(thread: ParseThread) -> None:
    reader = Reader()
    cache = PlanCache(reader, thread)
    leaves, stays = (asyncio.create_task(cache.plan("a", LABELS)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    reader.resume.set()
    assert await stays is PLAN
    assert reader.calls == ["a"]


@pytest.mark.anyio
async def test_an_error_is_cached_and_each_request_gets_its_own(thread: ParseThread) -> None:
    reader = Reader(refuse)
    reader.resume.set()
    cache = PlanCache(reader, thread)
    errors = []
    for _ in range(2):
        with pytest.raises(BadLabelConfig, match="a is wrong") as error:
            await cache.plan("a", LABELS)
        errors.append(error.value)
    assert errors[0] is not errors[1]
    assert reader.calls == ["a"]


@pytest.mark.anyio
async def test_an_unexpected_error_is_not_cached(thread: ParseThread) -> None:
    def fail(config: str) -> LabelingPlan:
        raise MemoryError

    reader = Reader(fail)
    reader.resume.set()
    cache = PlanCache(reader, thread)
    for _ in range(2):
        with pytest.raises(MemoryError):
            await cache.plan("a", LABELS)
    assert reader.calls == ["a", "a"]


@pytest.mark.anyio
async def test_the_least_recently_used_plan_is_evicted_and_labels_count(thread: ParseThread) -> None:
    reader = Reader()
    reader.resume.set()
    cache = PlanCache(reader, thread, size=2, refused=1)
    for config in ("a", "b", "a", "c", "a", "b"):
        await cache.plan(config, LABELS)
    await cache.plan("b", LABELS[::-1])
    assert reader.calls == ["a", "b", "c", "b", "b"]


@pytest.mark.anyio
async def test_refused_configs_evict_no_plan(thread: ParseThread) -> None:
    def read(config: str) -> LabelingPlan:
        return PLAN if config == "in use" else refuse(config)

    reader = Reader(read)
    reader.resume.set()
    cache = PlanCache(reader, thread, size=1, refused=2)
    await cache.plan("in use", LABELS)
    for config in ("a", "b", "c", "b", "a"):
        with pytest.raises(BadLabelConfig):
            await cache.plan(config, LABELS)
    await cache.plan("in use", LABELS)
    assert reader.calls == ["in use", "a", "b", "c", "a"]


@pytest.mark.anyio
async def test_parses_leave_the_threads_of_requests_alone(thread: ParseThread) -> None:
    reader = Reader()
    cache = PlanCache(reader, thread)
    waiting = [asyncio.create_task(cache.plan(str(number), LABELS)) for number in range(MAX_PARSES)]
    await asyncio.sleep(0)
    asyncio.get_running_loop().set_default_executor(executor := ThreadPoolExecutor(1))
    assert await asyncio.to_thread(lambda: "ran") == "ran"
    executor.shutdown()
    reader.resume.set()
    assert await asyncio.gather(*waiting) == [PLAN] * MAX_PARSES
    assert len(reader.threads) == 1


@pytest.mark.anyio
async def test_parses_are_bounded_for_all_models_together(thread: ParseThread) -> None:
    reader = Reader()
    caches = PlanCache(reader, thread), PlanCache(reader, thread)
    waiting = [asyncio.create_task(caches[i % 2].plan(str(i), LABELS)) for i in range(MAX_PARSES)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="new labeling configs are being parsed"):
        await caches[0].plan("one more", LABELS)
    reader.resume.set()
    await asyncio.gather(*waiting)
    assert await caches[0].plan("one more", LABELS) is PLAN


@pytest.mark.anyio
async def test_a_parse_is_dropped_if_its_clients_leave_before_it_runs_and_kept_if_it_runs(
    thread: ParseThread,
) -> None:
    reader = Reader()
    cache = PlanCache(reader, thread)
    waiting = [asyncio.create_task(cache.plan(str(number), LABELS)) for number in range(MAX_PARSES)]
    stays = asyncio.create_task(cache.plan("1", LABELS))
    await asyncio.to_thread(reader.begun.wait)
    for client in waiting:
        client.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    comes_back = asyncio.create_task(cache.plan("2", LABELS))
    await asyncio.sleep(0)
    reader.resume.set()
    assert await asyncio.gather(*[stays, comes_back]) == [PLAN] * 2
    assert await cache.plan("0", LABELS) is PLAN
    assert reader.calls == ["0", "1", "2"]


def test_the_thread_starts_with_the_first_config_and_ends_with_the_server(bundle: Bundle) -> None:
    def of_configs() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name.startswith("config")} - before

    before = set(threading.enumerate())
    with running(bundle) as client:
        assert not of_configs()
        assert set_up(client).status_code == 200
        (thread,) = of_configs()
    thread.join(PATIENCE)
    assert not thread.is_alive()
