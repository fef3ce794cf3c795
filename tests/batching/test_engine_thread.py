"""One engine thread: exceptions reach the caller, the thread survives them, and a hung call blocks no one."""

import threading

import pytest

from server.batching.engine_thread import EngineThread

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(ValueError("x"), ValueError), (StopIteration(), RuntimeError), (SystemExit(), RuntimeError)],
)
async def test_an_exception_reaches_the_caller_and_the_thread_goes_on(
    raised: BaseException, expected: type[Exception]
) -> None:
    def fail() -> None:
        raise raised

    thread = EngineThread("t")
    thread.start()
    with pytest.raises(expected):
        await thread.call(fail)
    assert await thread.call(lambda: threading.current_thread().name) == "t"
    thread.end()
    assert thread.join(10)


async def test_ending_does_not_wait_for_a_call_that_hangs() -> None:
    hanging = threading.Event()
    thread = EngineThread("t")
    thread.start()
    call = thread.call(hanging.wait)
    thread.end()
    assert not thread.join(0.01)
    hanging.set()
    assert await call
    assert thread.join(10)
