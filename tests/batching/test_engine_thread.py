"""The thread for model calls: what it raises, that it survives, and that nobody waits for one that hangs."""

import threading

import pytest

from server.batching.engine_thread import ModelThread

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("raised", "told"),
    [(ValueError("x"), ValueError), (StopIteration(), RuntimeError), (SystemExit(), RuntimeError)],
)
async def test_what_a_call_raises_reaches_its_caller_and_the_thread_goes_on(
    raised: BaseException, told: type[Exception]
) -> None:
    def fail() -> None:
        raise raised

    thread = ModelThread("t")
    with pytest.raises(told):
        await thread.call(fail)
    assert await thread.call(lambda: threading.current_thread().name) == "t"
    thread.end()
    assert thread.join(10)


async def test_ending_does_not_wait_for_a_call_that_hangs() -> None:
    hanging = threading.Event()
    thread = ModelThread("t")
    call = thread.call(hanging.wait)
    thread.end()
    assert not thread.join(0.01)
    hanging.set()
    assert await call
    assert thread.join(10)
