"""A lone call runs on all cores, calls at the same time on one each."""

from contextlib import ExitStack

import numpy as np
import pytest

from server.arrays import Floats, Ids
from server.engines.base import pad
from server.engines.session_pair import SessionPair


class RecordingSession:
    """Notes its name at each call."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        self._calls.append(self._name)
        if lengths.max() > 9:
            raise MemoryError
        return np.ones((len(ids), 1), dtype=np.float32)


CALL = pad([np.arange(5, dtype=np.int32)], 5)
TOO_LONG = pad([np.arange(10, dtype=np.int32)], 10)


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def pair(calls: list[str]) -> SessionPair:
    return SessionPair(RecordingSession("narrow", calls), RecordingSession("wide", calls))


def test_every_group_of_a_lone_call_is_wide(pair: SessionPair, calls: list[str]) -> None:
    for _ in range(2):
        with pair:
            pair.run(*CALL)
            pair.run(*CALL)
    assert calls == ["wide"] * 4


def test_a_call_is_narrow_from_when_another_one_is_entered_until_it_is_left(
    pair: SessionPair, calls: list[str]
) -> None:
    with pair:
        pair.run(*CALL)
        with ExitStack() as others:
            for _ in range(2):
                others.enter_context(pair)
                pair.run(*CALL)
        pair.run(*CALL)
    assert calls == ["wide", "narrow", "narrow", "wide"]


def test_a_call_that_fails_is_left(pair: SessionPair, calls: list[str]) -> None:
    with pytest.raises(MemoryError), pair:
        pair.run(*TOO_LONG)
    with pair:
        pair.run(*CALL)
    assert calls == ["wide", "wide"]
