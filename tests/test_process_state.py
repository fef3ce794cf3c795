"""The guard against settings that leak from test to test sees each of them."""

import gc
import locale
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from tests import process_state


def torch_threads(undo: ExitStack) -> None:
    undo.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(torch.get_num_threads() + 1)


def switch_interval(undo: ExitStack) -> None:
    undo.callback(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(0.5)


def frozen(undo: ExitStack) -> None:
    undo.callback(gc.freeze)
    gc.unfreeze()


def environment(undo: ExitStack) -> None:
    undo.callback(os.environ.pop, "PRELABEL_SEEN")
    os.environ["PRELABEL_SEEN"] = "1"


def handler(undo: ExitStack) -> None:
    undo.callback(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, signal.SIG_IGN))


def level(undo: ExitStack) -> None:
    undo.callback(logging.getLogger("httpx").setLevel, logging.getLogger("httpx").level)
    logging.getLogger("httpx").setLevel(logging.CRITICAL)


def log_handler(undo: ExitStack) -> None:
    added = logging.NullHandler()
    undo.callback(logging.root.removeHandler, added)
    logging.root.addHandler(added)


def float_errors(undo: ExitStack) -> None:
    undo.callback(lambda before: np.seterr(**before), np.seterr(over="ignore"))


def umask(undo: ExitStack) -> None:
    undo.callback(os.umask, os.umask(0o007))


def limit(undo: ExitStack) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    undo.callback(resource.setrlimit, resource.RLIMIT_CORE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (1 if soft == 0 and hard else 0, hard))


def numbers_with_commas(undo: ExitStack) -> None:
    undo.callback(locale.setlocale, locale.LC_ALL, locale.setlocale(locale.LC_ALL))
    locale.setlocale(locale.LC_ALL, "C" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8")


def affinity(undo: ExitStack) -> None:
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("one core only")
    undo.callback(os.sched_setaffinity, 0, before)
    os.sched_setaffinity(0, set(list(before)[:1]))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (torch_threads, "torch.get_num_threads: "),
        (switch_interval, "sys.getswitchinterval: "),
        (frozen, "gc.freeze: True before, False after"),
        (environment, "os.environ: PRELABEL_SEEN: None before, '1' after"),
        (handler, "signal.getsignal: SIGUSR1: "),
        (level, "logging levels: httpx: "),
        (log_handler, "logging handlers: "),
        (float_errors, "numpy.geterr: over: "),
        (umask, "os.umask: "),
        (limit, "resource.RLIMIT_CORE: "),
        (numbers_with_commas, "locale: "),
        (affinity, "os.sched_getaffinity: "),
    ],
)
def test_a_changed_setting_is_named(change: Callable[[ExitStack], None], name: str) -> None:
    before = process_state.settings_and_frozen()
    with ExitStack() as undo:
        change(undo)
        changed = process_state.differences(before, process_state.settings_and_frozen())
    assert len(changed) == 1
    assert changed[0].startswith(name)
    assert not process_state.differences(before, process_state.settings_and_frozen())
