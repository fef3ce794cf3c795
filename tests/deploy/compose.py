"""Reads our Compose files as Compose does: merges them, fills in variables, and lists what each service runs
with.

Services of a profile are left out, as Compose does without a profile.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
REPLACED = ("command", "entrypoint", "test")
"""Lists that a later file replaces; it adds to all others."""
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True)
class Service:
    name: str
    image: str
    dockerfile: str
    """The Dockerfile of the image; "" if the image is pulled."""
    environment: Mapping[str, str]
    secrets: Mapping[str, Path]
    """Path in the container → file of the host."""
    volumes: Mapping[str, Path | None]
    """Path in the container → folder of the host, None for a named volume."""
    ports: Mapping[int, int]
    """Port of the container → port of the host."""
    check: tuple[str, ...]
    """The command of its health check; () if the image's applies."""
    waits_for: tuple[str, ...]
    """Services that must be healthy before it starts."""
    grace: float
    """Seconds from SIGTERM to SIGKILL."""


def read(*paths: Path, variables: Mapping[str, str] = MappingProxyType({})) -> dict[str, Service]:
    """The services of the merged files, in the order in which they start. Paths are relative to the first
    file's folder.
    """
    merged = merge_files(*paths, variables=variables)
    folder = paths[0].parent
    secrets = {name: folder / each["file"] for name, each in merged.get("secrets", {}).items()}
    selected = {name: each for name, each in merged["services"].items() if "profiles" not in each}
    services = {name: service(name, each, folder, secrets) for name, each in selected.items()}
    return {
        name: services[name]
        for name in TopologicalSorter(
            {name: each.waits_for for name, each in services.items()}
        ).static_order()
    }


def merge_files(*paths: Path, variables: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge(merged, yaml.safe_load(filled_in(path.read_text(), variables)))
    return merged


def filled_in(text: str, variables: Mapping[str, str] = MappingProxyType({})) -> str:
    """`text` with its variables filled in. Raises ValueError for a variable of another form."""
    filled = VARIABLE.sub(lambda found: variables.get(found[1]) or found[2], text)
    for line in filled.splitlines():
        if "$" in line.split(" #")[0] and not line.lstrip().startswith("#"):
            raise ValueError(f"a variable that is not ${{NAME:-default}}: {line.strip()}")
    return filled


def merge(base: Any, over: Any, key: str = "") -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {
            name: merge(base[name], each, name) if name in base else each for name, each in over.items()
        }
    if isinstance(base, list) and isinstance(over, list) and key not in REPLACED:
        return base + [each for each in over if each not in base]
    return over


def service(name: str, found: Mapping[str, Any], folder: Path, secrets: Mapping[str, Path]) -> Service:
    volumes = (each.split(":") for each in found.get("volumes", ()))
    ports = (each.split(":") for each in found.get("ports", ()))
    kind, *check = found.get("healthcheck", {}).get("test", ("CMD",))
    if kind != "CMD":
        raise ValueError(f"{name}: a health check that is no CMD: {kind}")
    return Service(
        name=name,
        image=found["image"],
        dockerfile=found.get("build", {}).get("dockerfile", ""),
        environment=found.get("environment", {}),
        secrets={f"/run/secrets/{each}": secrets[each] for each in found.get("secrets", ())},
        volumes={
            target: folder / source if source.startswith((".", "/")) else None
            for source, target, *_ in volumes
        },
        ports={int(target): int(source) for _, source, target in ports},
        check=tuple(check),
        waits_for=tuple(
            each for each, how in found.get("depends_on", {}).items() if how["condition"] == "service_healthy"
        ),
        grace=seconds(found.get("stop_grace_period", "10s")),
    )


def seconds(duration: str) -> float:
    """Parse a duration such as `1m30s`."""
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)(ms|[hms])", duration))
