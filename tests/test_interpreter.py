"""Settings of the interpreter end with the last server that needs them."""

import gc
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.bundle import Bundle
from server.interpreter import SWITCH_INTERVAL, Interpreter
from tests.serving import running


@pytest.fixture
def thawed() -> Iterator[None]:
    """Nothing is kept from the garbage collector, as in a process that has just begun."""
    gc.unfreeze()
    yield
    gc.freeze()


def tuned() -> bool:
    return sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL, abs=1e-6) and gc.get_freeze_count() > 0


@pytest.mark.usefixtures("thawed")
def test_a_server_restores_what_it_changed(bundle: Bundle) -> None:
    before = sys.getswitchinterval()
    with running(bundle) as client:
        assert client.get("/live").status_code == 200
        assert tuned()
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (before, 0)


@pytest.mark.usefixtures("thawed")
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_of_several_servers_the_last_restores(first_to_end: int) -> None:
    interpreter, before = Interpreter(), sys.getswitchinterval()
    servers = [ExitStack(), ExitStack()]
    for each in servers:
        each.enter_context(interpreter.tuned())
    servers.pop(first_to_end).close()
    assert tuned()
    servers.pop().close()
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (before, 0)


@pytest.mark.usefixtures("thawed")
def test_what_others_froze_stays_frozen() -> None:
    gc.freeze()
    with Interpreter().tuned():
        pass
    assert gc.get_freeze_count() > 0


def test_the_settings_are_restored_after_an_error() -> None:
    before = sys.getswitchinterval()
    with pytest.raises(KeyError), Interpreter().tuned():
        raise KeyError
    assert sys.getswitchinterval() == before
