"""A benchmark's figures as a file, beside what they were measured on: benchmarks/measured/<name>.json, which
the report is made of.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(__file__).parent / "measured"

PACKAGES = (
    "numba",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "msgspec",
    "starlette",
    "torch",
    "uvicorn",
    "uvloop",
)


def write(name: str, figures: dict[str, Any]) -> Path:
    """Keep the figures of the benchmark `name`, in place of those of its last run. Times are in milliseconds
    unless a key says otherwise.
    """
    found = {
        "benchmark": name,
        "command": " ".join(
            [
                "python -m",
                _module_name(),
                *(Path(word).name if Path(word).exists() else word for word in sys.argv[1:]),
            ]
        ),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "figures": figures,
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(found, indent=2, default=float) + "\n")
    return path


def read(name: str) -> dict[str, Any] | None:
    """What `write` kept; None where the benchmark was never run."""
    try:
        found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return found


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The checkout's commit, with + behind it where files differ from it; empty outside of one."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],  # noqa: S607 - whichever git the developer uses
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return described.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None else Path(sys.argv[0]).name
