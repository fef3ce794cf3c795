"""Fixes the process-wide settings that trained weights depend on while a function runs, then restores them.

The sum of floats depends on their order, and the order on the number of threads, by which torch, BLAS and
OpenMP split work. Other code in the process may have changed that number, the precision of products or the
treatment of denormal numbers. The same seed must give the same network nevertheless.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from threadpoolctl import threadpool_limits

THREADS = 1
"""A number that every machine has, independent of its cores, load and affinity. More threads gain little:
memory bounds most of a step. On busy cores, threads that wait for each other take twice as long as one
(docs/training.md).
"""

ROUND_TO_NEAREST = 0
"""FE_TONEAREST of C's fenv.h, on every processor that torch supports."""


class Setting(NamedTuple):
    """One process-wide setting, and its value during training."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    value: Any


@contextmanager
def reproducible() -> Iterator[None]:
    """A context manager and decorator. Afterwards torch's random numbers continue as if nothing had run."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        for setting in _settings():
            stack.callback(setting.set, setting.get())
            setting.set(setting.value)
        stack.enter_context(threadpool_limits(THREADS))
        yield


def _settings() -> list[Setting]:
    onednn: Any = torch.backends.mkldnn  # torch's types lack its attributes
    return [
        Setting(torch.get_num_threads, torch.set_num_threads, THREADS),
        Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Setting(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, "error"),
        # the deterministic mode fills new memory for code that reads it before it writes: a tenth of a step's
        # time
        _attribute(torch.utils.deterministic, "fill_uninitialized_memory", value=False),
        # otherwise processors with bfloat16 units may round factors to 8 bits
        _attribute(onednn.matmul, "fp32_precision", value="ieee"),
        _attribute(onednn.conv, "fp32_precision", value="ieee"),
        Setting(flushes_denormals, torch.set_flush_denormal, value=False),
        *_rounding(),
    ]


def _attribute(holder: Any, name: str, *, value: Any) -> Setting:
    return Setting(lambda: getattr(holder, name), lambda new: setattr(holder, name, new), value)


def flushes_denormals() -> bool:
    """Whether this thread treats denormal numbers as zero. A library built with -ffast-math sets this for its
    process. torch can set it but not read it.
    """
    return sys.float_info.min / 2 == 0.0


def _rounding() -> list[Setting]:
    """The rounding direction; nothing on a system whose C library does not export it."""
    try:
        library = ctypes.CDLL(None)
        return [Setting(library.fegetround, library.fesetround, ROUND_TO_NEAREST)]
    except (AttributeError, TypeError):
        return []
