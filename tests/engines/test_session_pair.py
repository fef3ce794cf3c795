"""A lone call runs on all cores, calls at the same time on one each."""

from contextlib import ExitStack

import numpy as np
import pytest

from server.arrays import Floats, Ids
from server.engines.base import pad
from server.engines.onnx_transformer import GROUP_TOKENS
from server.engines.session_pair import LONG_TOKENS, SessionPair


class RecordingSession:
    """Notes its name at each call."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    def run(self, ids: Ids, lengths: Ids, *, keep_memory: bool = True) -> Floats:
        self._calls.append(self._name if keep_memory else f"{self._name}, memory returned")
        if lengths.max() == 10:
            raise MemoryError
        return np.ones((len(ids), 1), dtype=np.float32)


class RecordingLock:
    """Notes when it is held and released."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        self._calls.append("held")

    def __exit__(self, *_: object) -> None:
        self._calls.append("released")


CALL = pad([np.arange(5, dtype=np.int32)], 5)
TOO_MUCH = pad([np.arange(10, dtype=np.int32)], 10)


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def pair(calls: list[str]) -> SessionPair:
    return SessionPair(
        RecordingSession("narrow", calls), RecordingSession("wide", calls), RecordingLock(calls)
    )


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
        pair.run(*TOO_MUCH)
    with pair:
        pair.run(*CALL)
    assert calls == ["wide", "wide"]


@pytest.mark.parametrize("others", [0, 1])
def test_long_texts_run_one_at_a_time_and_return_their_memory(
    pair: SessionPair, calls: list[str], others: int
) -> None:
    """On one of the sessions only: each would keep the pieces of its largest call."""
    long = LONG_TOKENS + 1
    with pair, ExitStack() as entered:
        for _ in range(others):
            entered.enter_context(pair)
        pair.run(*pad([np.zeros(long, dtype=np.int32)], long))
        assert calls == ["held", "wide, memory returned", "released"]
        pair.run(*pad([np.zeros(LONG_TOKENS, dtype=np.int32)], LONG_TOKENS))
    assert calls[3:] == [["wide"], ["narrow"]][others]


def test_calls_of_several_texts_are_not_long() -> None:
    """What bounds their memory: GROUP_TOKENS."""
    assert GROUP_TOKENS < LONG_TOKENS
