"""What is asked of a Ray cluster: which one, how many replicas, what each may take. Needs no Ray."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from server.errors import BadSetting
from server.settings import Settings

LOCAL = "local"
"""The address of a cluster of this machine alone, that is started and stopped with the command."""

REPLICAS = "1"
CPUS = 1
"""Replicas, and CPU cores of each replica or process, unless given."""

FORMATS = ("jsonl", "parquet")
"""Of output files; the first unless another is given."""

MOST = 1000
"""Replicas: more is a slip of the finger."""


@dataclass(frozen=True)
class Replicas:
    """As many as `least`, or between it and `most` by the requests that are being answered."""

    least: int
    most: int


@dataclass(frozen=True)
class Share:
    """What one replica, or one process of a bulk run, has of its node: whole CPU cores, and GPUs."""

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
    """The cluster's address: the option's, else RAY_ADDRESS, else LOCAL. Raises BadSetting."""
    address = given or environ.get("RAY_ADDRESS", "") or LOCAL
    if "://" in address:
        raise BadSetting(
            f"--ray-address = {address!r}: expected auto, local or HOST:PORT of a cluster; run the "
            "command on one of its nodes."
        )
    return address


def read_replicas(text: str) -> Replicas:
    """`2` or `1-8`. Raises BadSetting."""
    found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", text.strip())
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most <= MOST:
        raise BadSetting(
            f"--replicas = {text!r}: expected a number such as 2, or the least and the most such as "
            f"1-8; at most {MOST}."
        )
    return Replicas(least, most)


def read_suffix(form: str | None) -> str:
    """The suffix of output files. Raises BadSetting."""
    if form not in (None, *FORMATS):
        raise BadSetting(f"--format = {form!r}: expected {' or '.join(FORMATS)}.")
    return f".{form or FORMATS[0]}"


def share(settings: Settings, cpus: int) -> Share:
    """A GPU for whoever asks for CUDA. Raises BadSetting for GPUs by number, for Ray gives out its own."""
    if settings.device.startswith("cuda:"):
        raise BadSetting(
            f"device (PRELABEL_DEVICE) = {settings.device!r}: with --on-ray it is Ray that chooses the "
            "GPUs; expected cuda, cpu or auto."
        )
    return Share(cpus, int(settings.device == "cuda"))


def within(settings: Settings, of: Share) -> Settings:
    """The settings on a node that others share: folders by their whole path, no more threads than CPU cores,
    and no GPU that was not asked for.
    """
    threads = settings.engine_threads or (0 if of.gpus else of.cpus)
    device = settings.device if of.gpus else "cpu"
    return settings.model_copy(
        update={
            "bundle": tuple(path.resolve() for path in settings.bundle),
            "engine_threads": threads,
            "device": device,
        }
    )


def check_installed() -> None:
    """Raises BadSetting."""
    if importlib.util.find_spec("ray") is None:
        raise BadSetting("--on-ray needs Ray, which is not installed: pip install prelabel[ray].")


def check_none_given(**options: object) -> None:
    """Options that mean nothing without a cluster. Raises BadSetting."""
    for name, value in options.items():
        if value is not None:
            raise BadSetting(f"--{name.replace('_', '-')}: this is for a Ray cluster; add --on-ray.")
