"""The scorings that projects asked for: in memory, shared by several workers, and written by two at once."""

import asyncio
import multiprocessing
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from server.errors import Unavailable
from server.prediction.scoring_store import ProjectScorings, SharedScorings
from server.scoring import Scoring

MARGIN, ENTROPY = Scoring("margin", 0.25), Scoring("entropy")
KEY = ("m", "1.1")


@contextmanager
def workers(file: Path, max_projects: int = 10) -> Iterator[tuple[ProjectScorings, ProjectScorings]]:
    """Two workers that share a file."""
    with (
        closing(ProjectScorings(file, max_projects)) as one,
        closing(ProjectScorings(file, max_projects)) as other,
    ):
        yield one, other


async def remembered(store: ProjectScorings) -> list[bool]:
    return [await store.of("m", f"2.{number}") is not None for number in range(5)]


@pytest.mark.anyio
async def test_what_one_worker_stores_the_other_finds(tmp_path: Path) -> None:
    with workers(tmp_path / "file") as (one, other):
        assert await other.of(*KEY) is None
        await one.remember(*KEY, MARGIN)
        assert await other.of(*KEY) == MARGIN
        assert await other.of("n", "1.1") is None
        await other.remember(*KEY, ENTROPY)
        assert await one.of(*KEY) == ENTROPY
        await other.remember(*KEY, None)
        assert await one.of(*KEY) is None


@pytest.mark.anyio
async def test_the_projects_that_changed_longest_ago_are_evicted(tmp_path: Path) -> None:
    with workers(tmp_path / "file", 3) as (one, other):
        for store in (one, ProjectScorings(max_projects=3)):
            for number in range(4):
                await store.remember("m", f"2.{number}", ENTROPY)
            await store.remember("m", "2.1", MARGIN)
            await store.remember("m", "2.4", MARGIN)
            assert await remembered(store) == [False, True, False, True, True]
        assert await remembered(other) == [False, True, False, True, True]


@pytest.mark.anyio
async def test_the_file_is_read_only_after_a_write(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with workers(file) as (one, other):
        await one.remember(*KEY, MARGIN)
        assert await other.of(*KEY) == MARGIN
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            database.execute("UPDATE scorings SET score = 'entropy'")  # without the mark of a worker
        assert await other.of(*KEY) == MARGIN
        await one.remember("m", "1.2", MARGIN)
        assert await other.of(*KEY) == Scoring("entropy", 0.25)


@pytest.mark.anyio
async def test_the_loop_runs_on_while_another_worker_writes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with workers(file) as (one, _), closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(one.remember(*KEY, MARGIN))
        for _ in range(10):
            await asyncio.sleep(0)
            assert await one.of(*KEY) is None
        assert not writing.done()
        database.execute("COMMIT")
        await writing
        assert await one.of(*KEY) == MARGIN


def write_many(file: Path, worker: int, start: "multiprocessing.synchronize.Barrier") -> None:
    with closing(SharedScorings(file, 10)) as store:
        start.wait()
        for number in range(200):
            store.write(KEY, Scoring("margin", (1 + worker + number) / 1_000) if number % 3 else None)
        store.write(KEY, MARGIN)


def test_two_processes_that_set_up_the_same_project_at_once(tmp_path: Path) -> None:
    """With DELETE and then INSERT, each in its own transaction, one of them met the other's row."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    racing = [context.Process(target=write_many, args=(tmp_path / "file", i, start)) for i in range(2)]
    for process in racing:
        process.start()
    for process in racing:
        process.join()
    assert [process.exitcode for process in racing] == [0, 0]
    with closing(SharedScorings(tmp_path / "file", 10)) as store:
        assert dict(store.read()) == {KEY: MARGIN}


@pytest.mark.anyio
async def test_a_file_that_cannot_be_used_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with workers(tmp_path / "file") as (one, _):
        with closing(sqlite3.connect(tmp_path / "file")) as database:
            database.execute("DROP TABLE scorings")
        with pytest.raises(Unavailable, match="could not be read .no such table.*Restart the server"):
            await one.remember(*KEY, MARGIN)
