"""What a user needs to use a new bundle."""

import sys
from pathlib import Path
from shlex import quote
from shutil import which

from server.bundle import LABELING_CONFIG
from server.cli.options import default_of


def next_steps(out: Path, label_studio: str | None, project: int | None) -> list[str]:
    """Lines to copy: how to serve the bundle `out`, label a file with it, and connect a project, and where
    the labeling config is. The project that the bundle was trained on is named.
    """
    prelabel = "prelabel" if which("prelabel") else quote(sys.argv[0])
    studio, number = quote(label_studio or "http://localhost:8080"), project or "NUMBER"
    backend = f"http://localhost:{default_of('port')}"
    lines = [
        f"Serve it:  {prelabel} serve --bundle {quote(str(out))}",
        f"A file:    {prelabel} predict IN.csv OUT.json --bundle {quote(str(out))}",
        f"Connect:   {prelabel} connect --label-studio {studio} --project {number} --backend {backend}",
    ]
    if (config := out / LABELING_CONFIG).exists():
        lines.append(f"Labeling config for a project with these labels: {quote(str(config))}")
    return lines
