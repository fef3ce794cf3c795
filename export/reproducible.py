"""The process-wide settings that trained weights depend on: fixed while a function runs, then restored.

Sums of floats depend on their order, and that on the number of threads: torch, BLAS and OpenMP split work by
it. Other code of the process may have changed that number, or the precision of products, or the treatment of
tiny numbers; the same seed must give the same network all the same.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from threadpoolctl import threadpool_limits

THREADS = 1
"""A number that every machine has, whatever the cores, their load and the affinity are. More threads gain
little: most of a step is bound by memory. Where others use the cores, threads that wait for one another take
twice as long as one (docs/training.md).
"""

ROUND_TO_NEAREST = 0
"""FE_TONEAREST of C's fenv.h, on every processor that torch has a build for."""


class Setting(NamedTuple):
    """One setting of the process, and the value that it has during training."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    value: Any


@contextmanager
def reproducible() -> Iterator[None]:
    """As a decorator or in a `with`. The random numbers of torch go on afterwards as if nothing had run."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        for setting in _settings():
            stack.callback(setting.set, setting.get())
            setting.set(setting.value)
        stack.enter_context(threadpool_limits(THREADS))
        yield


def _settings() -> list[Setting]:
    onednn: Any = torch.backends.mkldnn  # whose parts torch's types lack
    return [
        Setting(torch.get_num_threads, torch.set_num_threads, THREADS),
        Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Setting(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, "error"),
        # a safety net of the deterministic mode for code that reads memory before it writes there: a tenth of
        # a step's time
        _attribute(torch.utils.deterministic, "fill_uninitialized_memory", value=False),
        # else processors with bfloat16 units may round the factors of a product to 8 bits
        _attribute(onednn.matmul, "fp32_precision", value="ieee"),
        _attribute(onednn.conv, "fp32_precision", value="ieee"),
        Setting(flushes_denormals, torch.set_flush_denormal, value=False),
        *_rounding(),
    ]


def _attribute(holder: Any, name: str, *, value: Any) -> Setting:
    return Setting(lambda: getattr(holder, name), lambda new: setattr(holder, name, new), value)


def flushes_denormals() -> bool:
    """Whether this thread takes the smallest floats for zero. A library built with -ffast-math sets that for
    the process that loads it; torch can set it, but does not say what it is.
    """
    return sys.float_info.min / 2 == 0.0


def _rounding() -> list[Setting]:
    """The direction of rounding; nothing on a system that does not offer it to Python."""
    try:
        library = ctypes.CDLL(None)
        return [Setting(library.fegetround, library.fesetround, ROUND_TO_NEAREST)]
    except (AttributeError, TypeError):
        return []
