"""Executes the steps of a Dockerfile in a scratch folder instead of the image's root."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.dockerfile import Instruction
from tests.e2e.conftest import ROOT

ROOTED = re.compile(r"(?<![\w./*-])(?=/(?:opt|src|app|tmp|run|bundles|label-studio)\b)")
"""Matches before a path of the image or of a mount that belongs into the scratch folder."""


def inside(words: str, scratch: Path) -> str:
    return ROOTED.sub(str(scratch), words)


def execute(step: Instruction, folder: Path, scratch: Path) -> Path:
    """Execute the step below `scratch`. Returns the working folder of the next step."""
    words = inside(step.words, scratch)
    if step.name == "WORKDIR":
        Path(words).mkdir(parents=True)
        return Path(words)
    if step.name == "COPY" and not words.startswith("--from"):
        *sources, target = words.split()
        for source in sources:
            here = ROOT / source
            into = folder / target / here.name if target.endswith("/") else folder / target
            into.parent.mkdir(parents=True, exist_ok=True)
            if here.is_dir():
                shutil.copytree(here, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(here, into)
    if step.name == "COPY" and words.startswith("--from"):
        for each in Path(words.split()[1]).rglob("*"):
            if not each.is_symlink():
                # as layers do
                os.utime(each, (int(each.stat().st_atime), int(each.stat().st_mtime)))
    if step.name == "RUN":
        (scratch / "tmp").mkdir(exist_ok=True)
        words = words.replace("python3 -m venv", f"{sys.executable} -m venv")
        done = subprocess.run(
            ["/bin/sh", "-c", words],
            cwd=folder,
            env=os.environ | {"ORT": "cpu"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return folder
