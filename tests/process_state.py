"""The settings of this process that one test could leave to the next, and that a test's result may depend on.

Not here, since pytest restores them itself: warning filters, and what `monkeypatch` changes.
"""

import asyncio
import gc
import locale
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.reproducible import flushes_denormals

LIMITS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}


def settings() -> dict[str, Any]:
    """Each by its name. Reading them takes 0.1 ms."""
    return {name: read() for name, read in READERS.items()} | {
        f"resource.{name}": resource.getrlimit(number) for name, number in LIMITS.items()
    }


def settings_and_frozen() -> dict[str, Any]:
    """The same, and whether objects are kept from the garbage collector: it counts them one by one, 25 ms."""
    return settings() | {"gc.freeze": gc.get_freeze_count() > 0}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """One line for each setting that is another one now. Empty where nothing has changed."""
    return [f"{name}: {_shown(before[name], after[name])}" for name in before if before[name] != after[name]]


def _shown(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        return ", ".join(
            f"{key}: {_shown(before.get(key), after.get(key))}"
            for key in sorted(before.keys() | after.keys(), key=str)
            if before.get(key) != after.get(key)
        )
    return f"{before!r} before, {after!r} after"


def _umask() -> str:
    """Without changing it, as os.umask would."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((line for line in lines if line.startswith("Umask:")), "unknown")


def _levels() -> dict[str, int]:
    """Of the loggers that have one of their own; not of those that do not exist yet, and not of the one that
    a library of label-studio-sdk sets up when it is imported.
    """
    loggers = {"root": logging.root, **logging.root.manager.loggerDict}
    return {
        name: each.level
        for name, each in loggers.items()
        if isinstance(each, logging.Logger) and each.level and name != "fern"
    }


def _handlers() -> list[str]:
    """Of the root logger; pytest's own come and go."""
    return [repr(each) for each in logging.root.handlers if not type(each).__module__.startswith("_pytest")]


def _environment() -> dict[str, str]:
    """Not what pytest says of the test under way, and what torch notes when its compiler is imported."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR")
    }


def _start_method() -> str:
    """The first call fixes the default."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def _policy() -> str:
    """The package that makes event loops; asyncio makes its own policy when it is first asked."""
    policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]  # the public name would make one
    return "asyncio" if policy is None else type(policy).__module__.split(".")[0]


READERS: dict[str, Callable[[], Any]] = {
    "torch.get_num_threads": torch.get_num_threads,
    "torch.get_default_dtype": torch.get_default_dtype,
    "torch.get_deterministic_debug_mode": torch.get_deterministic_debug_mode,
    "torch.is_grad_enabled": torch.is_grad_enabled,
    "torch.set_flush_denormal": flushes_denormals,
    "numpy.geterr": np.geterr,
    "sys.getswitchinterval": sys.getswitchinterval,
    "sys.getrecursionlimit": sys.getrecursionlimit,
    "sys.excepthook": lambda: sys.excepthook,
    "sys.path": lambda: list(sys.path),
    "sys.argv": lambda: list(sys.argv),
    "threading.excepthook": lambda: threading.excepthook,
    "gc.isenabled": gc.isenabled,
    "gc.get_threshold": gc.get_threshold,
    "os.environ": _environment,
    "os.getcwd": os.getcwd,
    "os.umask": _umask,
    "os.getpriority": lambda: os.getpriority(os.PRIO_PROCESS, 0),
    "os.sched_getaffinity": lambda: os.sched_getaffinity(0),
    "signal.getsignal": lambda: {each.name: signal.getsignal(each) for each in signal.Signals},
    "signal.pthread_sigmask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    "logging levels": _levels,
    "logging handlers": _handlers,
    "logging.disable": lambda: logging.root.manager.disable,
    "locale": lambda: locale.setlocale(locale.LC_ALL),
    "multiprocessing start method": _start_method,
    "asyncio policy": _policy,
}
