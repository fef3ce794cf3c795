"""Saves a benchmark's figures and their environment in benchmarks/measured, for the report."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

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
    """Save the figures of the benchmark `name`; they replace those of its last run. Times are in milliseconds
    unless the key names another unit.
    """
    found = {
        "benchmark": name,
        "command": " ".join(
            [
                "python -m",
                _module_name(),
                *map(_without_folders, sys.argv[1:]),
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
    """The last saved figures and their environment; None if the benchmark was never run."""
    try:
        found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return found


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
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
    """The commit of the checkout, followed by + if files differ; empty outside of a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],  # noqa: S607 - the developer's git
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _without_folders(word: str) -> str:
    """The word with only the names of the files in it: `en=data/a.csv,data/b.csv` → `en=a.csv,b.csv`."""
    parts = re.split(r"([=,])", word)
    return "".join(Path(part).name if Path(part).exists() else part for part in parts)


def _module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None else Path(sys.argv[0]).name
