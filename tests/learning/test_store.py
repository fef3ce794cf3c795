"""The durable memory of learning: each annotation once, in its latest version."""

import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.errors import BadInput
from server.learning.annotations import Annotation, OutOfFold
from server.learning.store import FORMAT, LearningProject, LearningStore, Received, now, utc

EARLY, LATE = "2026-01-01T10:00:00.000000+00:00", "2026-01-01T11:00:00.000000+00:00"


def annotation(number: int, label: str = "games", updated: str = EARLY) -> Annotation:
    return Annotation(number, 10 * number, 1, f"text {number}", (label,), updated, "base-1")


@pytest.fixture
def store(tmp_path: Path) -> LearningStore:
    return LearningStore(tmp_path / "learned" / "learning.sqlite")


def test_each_version_of_an_annotation_counts_once(store: LearningStore) -> None:
    assert store.receive(7, [annotation(1), annotation(2)]) == Received(added=2)
    assert store.receive(7, [annotation(1), annotation(2)]) == Received()
    assert store.receive(7, [annotation(1, "web", LATE)]) == Received(changed=1)
    assert store.receive(7, [annotation(1)]) == Received(), "an old version that comes late"
    assert {each.id: each.labels for each in store.annotations(7)} == {1: ("web",), 2: ("games",)}
    assert store.annotations(8) == []


def test_a_deleted_annotation_stays_deleted(store: LearningStore) -> None:
    store.receive(7, [annotation(1)])
    assert store.receive(7, [], deleted=[1, 2]) == Received(deleted=1)
    assert store.receive(7, [annotation(1, updated=LATE), annotation(2)]) == Received()
    assert store.annotations(7) == []


def test_reconciling_deletes_what_label_studio_no_longer_has(store: LearningStore) -> None:
    store.receive(7, [annotation(1), annotation(2)])
    since = now()
    store.receive(7, [annotation(3)])  # by a webhook, while the others are fetched
    assert store.reconcile(7, [annotation(2, "web", LATE), annotation(4)], since) == Received(1, 1, 1)
    assert [each.id for each in store.annotations(7)] == [2, 3, 4]


def test_what_changed_since_a_time(store: LearningStore) -> None:
    store.receive(7, [annotation(1), annotation(2), annotation(3)])
    since = now()
    assert store.changed_since(7, since) == 0
    store.receive(7, [annotation(1), annotation(2, "web", LATE), annotation(4)], deleted=[3, 9])
    assert store.changed_since(7, since) == 3, "9 was never an annotation here"
    assert store.changed_since(7, "") == 4


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "learning.sqlite"
    with LearningStore(file) as store:
        store.set_up(LearningProject(7, "films", "7.1795474444", "<View/>", "section"))
        store.receive(7, [annotation(1)])
        store.set_predicted(7, {1: ["web"]})
        store.set_out_of_fold(7, "films-1", {1: OutOfFold(-0.5, True)})
        store.add_round(7, {"accepted": False})
        store.serve(7, "films-1")
        store.serve(7, "films-2")
        store.request_training(7)
    with LearningStore(file) as store:
        (project,) = store.projects()
        assert (project.control, project.served, project.previous) == ("section", "films-2", "films-1")
        assert project.training_requested
        assert store.annotations(7)[0].predicted == ("web",)
        assert store.out_of_fold(7, "films-1") == {1: OutOfFold(-0.5, True)}
        assert [report["accepted"] for report in store.rounds(7)] == [False]


def test_a_new_version_has_no_figures_of_the_one_before(store: LearningStore) -> None:
    store.receive(7, [annotation(1), annotation(2)])
    store.set_out_of_fold(7, "films-1", {1: OutOfFold(-0.5, True), 2: OutOfFold(-0.1, True)})
    store.receive(7, [annotation(1, "web", LATE), annotation(2)])
    assert store.out_of_fold(7, "films-1") == {2: OutOfFold(-0.1, True)}


def test_another_set_up_keeps_what_was_learned(store: LearningStore) -> None:
    store.set_up(LearningProject(7, "films", "7.1", "<View/>"))
    store.serve(7, "films-1")
    store.freeze(7, frozen=True)
    store.set_up(LearningProject(7, "films", "7.1", "<View>other</View>"))
    project = store.project(7)
    assert project is not None
    assert (project.config, project.served, project.frozen) == ("<View>other</View>", "films-1", True)


def test_what_is_forgotten_leaves_no_byte(tmp_path: Path) -> None:
    file = tmp_path / "learning.sqlite"
    with LearningStore(file) as store:
        secret = Annotation(1, 1, 1, "a very private text", ("games",), EARLY)
        store.set_up(LearningProject(7, "films", "7.1", "<View/>"))
        store.receive(7, [secret])
        store.receive(8, [annotation(2)])
        assert store.forget(7) == 1
        assert (store.annotations(7), store.project(7)) == ([], None)
        assert store.count(8) == 1
        for path in tmp_path.iterdir():
            assert b"very private" not in path.read_bytes(), path.name


def test_old_annotations_leave_no_byte_and_do_not_come_back(tmp_path: Path) -> None:
    def at(age: float) -> str:
        return utc(datetime.now(UTC) - timedelta(days=age))

    old = Annotation(1, 1, 1, "a very private text", ("games",), at(31))
    with LearningStore(tmp_path / "learning.sqlite") as store:
        store.receive(7, [old, annotation(2, updated=at(29))])
        store.receive(8, [annotation(3, updated=at(31))])
        assert store.delete_older_than(30) == 2
        assert store.delete_older_than(30) == 0
        assert [each.id for each in store.annotations(7)] == [2]
        assert store.receive(7, [old, annotation(1, updated=at(0))]) == Received()
        for path in tmp_path.iterdir():
            assert b"very private" not in path.read_bytes(), path.name


def test_the_annotations_of_deleted_tasks_are_deleted(store: LearningStore) -> None:
    store.receive(7, [annotation(1), annotation(2), annotation(3)])
    store.receive(8, [annotation(1)])
    assert store.receive(7, [], (), {10, 30, 990}) == Received(deleted=2)
    assert ([each.id for each in store.annotations(7)], store.count(8)) == ([2], 1)


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    file = tmp_path / "learning.sqlite"
    with LearningStore(file) as one, LearningStore(file) as other:
        one.receive(7, [annotation(1)])
        with one._transaction():
            assert (other.count(7), other.project(7)) == (1, None)


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    with LearningStore(tmp_path / "learned" / "learning.sqlite") as store:
        store.receive(7, [annotation(1)])
        for path in (tmp_path / "learned").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_two_processes_share_the_file(tmp_path: Path) -> None:
    file = tmp_path / "learning.sqlite"
    with LearningStore(file) as one, LearningStore(file) as other:
        one.receive(7, [annotation(1)])
        assert other.receive(7, [annotation(1), annotation(2)]) == Received(added=1)
        assert one.count(7) == 2


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "learning.sqlite"
    LearningStore(file).close()
    database = sqlite3.connect(file)
    database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.close()
    with pytest.raises(BadInput, match="upgrade it"):
        LearningStore(file)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "learning.sqlite"
    file.write_text("a diary, not a database" * 100)
    with pytest.raises(BadInput, match="expected the file of a learning server"):
        LearningStore(file)
    assert file.read_text().startswith("a diary")
