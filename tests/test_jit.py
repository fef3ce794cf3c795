"""Compiled functions and numba's cache."""

import subprocess
import sys
from pathlib import Path

import pytest

CALLED = """
from server.jit import compiled
@compiled
def called(number):
    return number + {}
"""
CALLER = """
from called import called
from server.jit import compiled
@compiled
def caller(number):
    return called(number)
"""


def test_a_changed_function_is_compiled_again_in_those_that_call_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "caller.py").write_text(CALLER)
    run = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import caller; "]
    run[-1] += "print(caller.caller(1), sum(caller.caller.stats.cache_hits.values()))"
    printed = []
    for added in (10, 10, 20):
        (tmp_path / "called.py").write_text(CALLED.format(added))
        printed.append(subprocess.run(run, capture_output=True, check=True, text=True, timeout=120).stdout)
    assert printed == ["11 0\n", "11 1\n", "21 0\n"]
