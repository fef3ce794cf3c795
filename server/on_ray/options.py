"""Options for a Ray cluster: its address, the number of replicas, and the resources of each. Does not need
Ray.
"""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from server.errors import BadSetting
from server.settings import Settings

LOCAL = "local"
"""The address of a local cluster, which is started and stopped with the command."""

REPLICAS = "1"
CPUS = 1
"""Default number of replicas, and of CPU cores of each replica or process."""

FORMATS = ("jsonl", "parquet")
"""Formats of output files; the first is the default."""

MAX_REPLICAS = 1000
"""A larger number is most likely a typo."""


@dataclass(frozen=True)
class Replicas:
    """A range for autoscaling by the requests in flight, or a fixed number if both are equal."""

    minimum: int
    maximum: int


@dataclass(frozen=True)
class Resources:
    """CPU cores and GPUs for one replica, or for one process of a bulk run."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class RayOptions:
    """The options for a Ray cluster, None where not given. Raises BadSetting for one without --on-ray."""

    on_ray: bool
    ray_address: str | None
    replicas: str | None = None
    replica_cpus: int | None = None
    format: str | None = None
    process_cpus: int | None = None

    def __post_init__(self) -> None:
        if not self.on_ray:
            given = asdict(self)
            del given["on_ray"]
            check_none_given(**given)


def read_address(given: str | None, environ: Mapping[str, str]) -> str:
    """The cluster's address: the option, otherwise RAY_ADDRESS, otherwise LOCAL. Raises BadSetting."""
    address = given or environ.get("RAY_ADDRESS", "") or LOCAL
    if "://" in address:
        raise BadSetting(
            f"--ray-address = {address!r}: expected auto, local, or HOST:PORT of a cluster; run the "
            "command on one of its nodes."
        )
    return address


def read_replicas(text: str) -> Replicas:
    """Parse `2` or `1-8`. Raises BadSetting."""
    found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", text.strip())
    minimum, maximum = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= minimum <= maximum <= MAX_REPLICAS:
        raise BadSetting(
            f"--replicas = {text!r}: expected a number such as 2, or a range such as 1-8; the "
            f"maximum is {MAX_REPLICAS}."
        )
    return Replicas(minimum, maximum)


def read_suffix(form: str | None) -> str:
    """The suffix of output files. Raises BadSetting."""
    if form not in (None, *FORMATS):
        raise BadSetting(f"--format = {form!r}: expected {' or '.join(FORMATS)}.")
    return f".{form or FORMATS[0]}"


def resources_for(settings: Settings, cpus: int) -> Resources:
    """One GPU if `device` is cuda. Raises BadSetting for GPUs by number, because Ray assigns the GPUs."""
    if settings.device.startswith("cuda:"):
        raise BadSetting(
            f"device (PRELABEL_DEVICE) = {settings.device!r}: with --on-ray, Ray assigns the "
            "GPUs; expected cuda, cpu or auto."
        )
    return Resources(cpus, int(settings.device == "cuda"))


def settings_for_node(settings: Settings, resources: Resources) -> Settings:
    """Settings for a process on a shared node: absolute paths, not more engine threads than CPU cores, and no
    GPU unless Ray assigns one.
    """
    threads = settings.engine_threads or (0 if resources.gpus else resources.cpus)
    device = settings.device if resources.gpus else "cpu"
    return settings.model_copy(
        update={
            "bundle": tuple(path.resolve() for path in settings.bundle),
            "engine_threads": threads,
            "device": device,
        }
    )


def check_installed() -> None:
    """Raises BadSetting if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise BadSetting("--on-ray needs Ray, which is not installed; run pip install 'prelabel[ray]'.")


def check_none_given(**options: object) -> None:
    """Raises BadSetting if an option that needs --on-ray is given."""
    for name, value in options.items():
        if value is not None:
            raise BadSetting(f"--{name.replace('_', '-')}: this option needs --on-ray.")
