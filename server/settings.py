"""The settings: name, default, bounds and description of each, from `PRELABEL_<NAME>` or an option."""

import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.engines.devices import (
    BUCKET_LENGTHS,
    CPU_BATCH_TOKENS,
    GPU_BATCH_TOKENS,
    GPU_MEM_LIMIT,
    CudaOptions,
    Grid,
    cuda_devices,
)
from server.errors import BadSetting, did_you_mean, one_line
from server.files import read_secret
from server.label_studio.credentials import web_address
from server.learning.triggers import Order
from server.log_setup import LogFormat
from server.scoring import DEFAULT_SCORING, Score, Scoring

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""A bearer token (RFC 6750)."""

RESERVED = {
    "admin",
    "docs",
    "health",
    "live",
    "metrics",
    "openapi.json",
    "predict",
    "ready",
    "setup",
    "static",
    "v2",
    "versions",
    "webhook",
}
"""Names that a bundle or ensemble cannot have, because the server has these paths."""


@dataclass(frozen=True)
class EnsembleSetting:
    """`members` are names of bundles; `weights`, one for each member, need not sum to 1."""

    name: str
    members: tuple[str, ...]
    weights: tuple[float, ...]


class Settings(BaseSettings):
    """`make docs` writes docs/settings.md from these fields, and a test compares them."""

    model_config = SettingsConfigDict(env_prefix="PRELABEL_", frozen=True)

    bundle: Annotated[tuple[Path, ...], NoDecode] = Field(
        (Path("artifacts/imdb-cnn"),),
        min_length=1,
        description=(
            "Folder of the bundle to serve. Several, separated by commas, are served at `/<folder name>` "
            "each, the first also at `/`."
        ),
    )
    ensemble: Annotated[tuple[EnsembleSetting, ...], NoDecode] = Field(
        (),
        description=(
            "Bundles that answer as one model at `/name`, as `name=a,b` or with weights `name=a,b:2,1`. "
            "Separate several with semicolons."
        ),
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on; `0.0.0.0` for all networks of the host."
    )
    port: int = Field(9090, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    path_prefix: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path in front of every route, such as `/prelabel`. The routes also work without it.",
    )
    basic_auth_user: str = Field(
        "", description="User name that every route except the probes asks for, with a password."
    )
    basic_auth_pass: SecretStr = Field(SecretStr(""), description="Password of that user.")
    api_token: SecretStr = Field(
        SecretStr(""),
        description=(
            "Bearer token for programs other than Label Studio, as an alternative to user and password. "
            "Separate several with commas."
        ),
    )
    admin_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token for `/admin/reload` and `/admin/rollback`, which are off without one.",
    )
    tls_cert: Path | None = Field(
        None, description="Certificate with its chain, as a PEM file. The server then speaks HTTPS only."
    )
    tls_key: Path | None = Field(None, description="Private key of the certificate, as a PEM file.")
    tls_key_password: SecretStr = Field(SecretStr(""), description="Password of that key, if it has one.")
    engine: Literal["auto", "tables", "onnx", "torchscript"] = Field(
        "auto",
        description=(
            "`tables` (CPU), `onnx`, `torchscript` (needs torch), or `auto`: `onnx` where it runs on CUDA, "
            "else `tables`."
        ),
    )
    device: str = Field(
        "auto",
        description=(
            "`cpu`; `cuda`, `cuda:1` or several as `cuda:0,cuda:1`, which must be there; `auto` falls "
            "back to the CPU with a warning."
        ),
    )
    gpu_mem_limit: int = Field(
        GPU_MEM_LIMIT,
        ge=2**20,
        description="Maximum bytes of GPU memory that ONNX Runtime takes for each bundle.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description=(
            "Processes that serve the same port and share one set of tables; "
            "[performance](docs/performance.md#settings-for-speed) says when more help."
        ),
    )
    engine_threads: int = Field(
        0,
        ge=0,
        le=256,
        description=(
            "Concurrent model calls in each process; 0 means one for each CPU core, divided among the "
            "workers, or two for each GPU."
        ),
    )
    bucket_lengths: Annotated[tuple[int, ...], NoDecode] = Field(
        BUCKET_LENGTHS,
        description="Padded lengths in tokens, in ascending order, separated by commas.",
    )
    batch_tokens: int = Field(
        0,
        ge=0,
        description=(
            f"Maximum padded tokens (rows × length) in one model call; 0 means {CPU_BATCH_TOKENS:,} on a CPU "
            f"and {GPU_BATCH_TOKENS:,} on a GPU."
        ),
    )
    max_wait: float = Field(
        0.0,
        ge=0,
        le=10,
        description=(
            "Maximum seconds that a text waits for a fuller batch; 0 runs what is queued as soon as an "
            "engine thread is free."
        ),
    )
    bulk_patience: int = Field(
        8,
        ge=1,
        description="Maximum consecutive batches of single tasks that run before a bulk batch that is due.",
    )
    max_waiting_rows: int = Field(
        200_000,
        ge=1,
        description=(
            "Maximum texts in flight per model. A request that would exceed it gets 429; one with more texts "
            "than that gets 413."
        ),
    )
    max_requests: int = Field(
        128,
        ge=1,
        description=(
            "Maximum prediction requests in flight, one in 8 of them with a body of more than 64 KB. More"
            " get 429."
        ),
    )
    max_waiting_bytes: int = Field(
        2**30,
        ge=1024,
        description=(
            "Maximum bytes in the bodies of requests in flight, in total. Requests that would exceed it "
            "get 429."
        ),
    )
    max_tasks: int = Field(50_000, ge=1, description="Maximum tasks in one request. More get 413.")
    max_body_bytes: int = Field(
        256 * 2**20, ge=1024, description="Maximum bytes in one request body. More get 413."
    )
    max_text: int = Field(
        1_000_000,
        ge=1,
        description=(
            "Maximum characters in one text, markup included. A task with a longer text gets no prediction."
        ),
    )
    body_timeout: float = Field(
        30.0, gt=0, description="Maximum seconds between two parts of a body. The request then gets 408."
    )
    request_timeout: float = Field(
        95.0,
        gt=0,
        description="Maximum seconds for a request. It then gets 503 (Label Studio gives up after 100).",
    )
    call_timeout: float = Field(
        60.0,
        gt=0,
        description="Maximum seconds for a model call. It has then failed, and its thread is replaced.",
    )
    drain_timeout: int = Field(
        60, ge=1, description="Maximum seconds that requests in flight may take after SIGTERM."
    )
    label_map: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="Choices for the model's labels, as `Label=choice`, separated by commas.",
    )
    score: Score = Field(
        DEFAULT_SCORING.score,
        description=(
            "Score of a prediction: `confidence`, `margin` or `entropy` "
            "([scores](docs/label-studio.md#scores)). A backend's `extra_params` override it."
        ),
    )
    threshold: float = Field(
        DEFAULT_SCORING.threshold,
        gt=0,
        le=1,
        description='Minimum probability of a label in a `<Choices>` with `choice="multiple"`.',
    )
    learn: str = Field(
        "",
        description=(
            "Address of the Label Studio from whose annotations to learn, in the projects that `connect "
            "--learn` has connected ([learning](docs/learning.md)). Its token is `LABEL_STUDIO_API_KEY`."
        ),
    )
    learn_folder: Path = Field(
        Path("learned"), description="Folder with the received annotations and the learned bundles."
    )
    learn_retention_days: int = Field(
        0, ge=0, description="Days after which received annotations are deleted; 0 keeps them."
    )
    order: Order = Field(
        "diverse",
        description=(
            "Which tasks come first in a project that learns: `diverse`, `uncertainty` or `random` "
            "([learning](docs/learning.md))."
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level of log lines. Task texts and tokens are never logged."
    )
    log_format: LogFormat = Field(
        "auto",
        description="`json`: one object a line; `text`; `auto`: text on a terminal, otherwise JSON.",
    )

    @field_validator("bucket_lengths", "bundle", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, Path):
            return (value,)
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("bundle")
    @classmethod
    def _check_bundles(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        names = [path.resolve().name for path in value]
        if len(set(names)) != len(names) or (len(names) > 1 and not all(is_free(name) for name in names)):
            raise ValueError(
                "folder names become paths of the server, so they must differ, contain only letters, digits, "
                "dots and hyphens, and not be a path of the server itself"
            )
        return value

    @field_validator("ensemble", mode="before")
    @classmethod
    def _split_ensembles(cls, value: Any) -> Any:
        value = ";".join(value) if isinstance(value, list) else value
        return (
            tuple(_ensemble(part) for part in value.split(";") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        cuda_devices(value)
        return value.replace(" ", "")

    @field_validator("bucket_lengths")
    @classmethod
    def _check_lengths(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] < 1 or any(a >= b for a, b in pairwise(value)):
            raise ValueError("must be positive numbers in ascending order, such as 64,128,256")
        return value

    @field_validator("label_map", mode="before")
    @classmethod
    def _split_map(cls, value: Any) -> Any:
        value = ",".join(value) if isinstance(value, list) else value
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if any(not (label.strip() and equals and choice.strip()) for label, equals, choice in pairs):
            raise ValueError(
                "must be Label=choice pairs separated by commas, such as Negative=bad,Positive=good"
            )
        return {label.strip(): choice.strip() for label, _, choice in pairs}

    @field_validator("learn")
    @classmethod
    def _check_label_studio(cls, value: str) -> str:
        return value and web_address("learn (PRELABEL_LEARN)", value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass.get_secret_value()):
            raise ValueError(
                "basic_auth_user: set PRELABEL_BASIC_AUTH_USER and PRELABEL_BASIC_AUTH_PASS both, or neither"
            )
        if ":" in self.basic_auth_user:
            raise ValueError(
                "basic_auth_user (PRELABEL_BASIC_AUTH_USER): it cannot hold a colon, which ends it in HTTP"
            )
        self._check_secrets()
        self._check_limits()
        names = list(self.bundles)
        for ensemble in self.ensemble:
            strange = [member for member in ensemble.members if member not in self.bundles]
            if strange:
                raise ValueError(
                    f"ensemble: {ensemble.name} names {', '.join(strange)}; the bundles are "
                    f"{', '.join(self.bundles)}"
                )
            if ensemble.name in names:
                raise ValueError(f"ensemble: the name {ensemble.name} is taken")
            names.append(ensemble.name)
        return self

    def _check_limits(self) -> None:
        """A request within one limit must not be impossible because of another."""
        for low, high, otherwise in (
            ("max_tasks", "max_waiting_rows", "a request with the most tasks would never be admitted"),
            ("max_body_bytes", "max_waiting_bytes", "the largest body would never be admitted"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise self._contradiction(low, "exceeds", high, otherwise)
        if self.max_wait >= self.request_timeout:
            raise self._contradiction(
                "max_wait", "is not below", "request_timeout", "a text could wait as long as its request"
            )

    def _contradiction(self, low: str, relation: str, high: str, otherwise: str) -> ValueError:
        return ValueError(
            f"{self._shown(low)} {relation} {self._shown(high)}: {otherwise}; lower the first or raise the "
            "second"
        )

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        shown = f"{value:g}" if isinstance(value, float) else value
        return f"{name} (PRELABEL_{name.upper()}) = {shown}"

    def _check_secrets(self) -> None:
        admin = self.admin_token.get_secret_value()
        for name, tokens in (("api_token", self.api_tokens), ("admin_token", (admin,) if admin else ())):
            if not all(TOKEN.fullmatch(token) for token in tokens):
                raise ValueError(
                    f"{name} (PRELABEL_{name.upper()}): a bearer token contains only letters, digits and "
                    "-._~+/, and may end in ="
                )
        if admin in self.api_tokens:
            raise ValueError(
                "admin_token (PRELABEL_ADMIN_TOKEN): it must differ from the tokens in PRELABEL_API_TOKEN"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert: set PRELABEL_TLS_CERT and PRELABEL_TLS_KEY both, or neither")

    @property
    def api_tokens(self) -> tuple[str, ...]:
        return tuple(token.strip() for token in self.api_token.get_secret_value().split(",") if token.strip())

    @property
    def bundles(self) -> dict[str, Path]:
        """Folders of the bundles by name, the default first."""
        return {path.resolve().name: path for path in self.bundle}

    @property
    def scoring(self) -> Scoring:
        return Scoring(self.score, self.threshold)

    def threads(self, device: str) -> int:
        """Concurrent model calls on `device` in each process."""
        return self.engine_threads or 2 * device.count("cuda") or self._share

    @property
    def cores(self) -> int:
        """CPU cores for a model call that is the only one of its process."""
        return min(self._share, self.engine_threads or self._share)

    @property
    def _share(self) -> int:
        """CPU cores of each process."""
        return max(1, len(os.sched_getaffinity(0)) // self.workers)

    def budget(self, device: str) -> int:
        """Maximum padded tokens in one model call on `device`."""
        return self.batch_tokens or (GPU_BATCH_TOKENS if "cuda" in device else CPU_BATCH_TOKENS)

    @property
    def cuda(self) -> CudaOptions:
        return CudaOptions(Grid(self.bucket_lengths, self.budget("cuda")), self.gpu_mem_limit)


SECRETS = {name for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
"""Settings that are never shown and can also be read from a file."""

PREFIX = "PRELABEL_"
VARIABLES = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {
    f"{PREFIX}{name.upper()}_FILE" for name in SECRETS
}
"""The environment variables that are read."""

OF_OTHERS = re.compile(
    rf"{PREFIX}((\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_TCP(_(PROTO|PORT|ADDR))?)|E2E_BUNDLE|PEER)"
    rf"=.*|{PREFIX}\w*PORT=tcp://.*"
)
"""Variables that Kubernetes sets for a Service, and those of our tests and benchmarks."""


def is_free(name: str) -> bool:
    """Whether `name` is free to be a path of the server."""
    return NAME.fullmatch(name) is not None and name not in RESERVED


def _ensemble(text: str) -> EnsembleSetting:
    name, _, rest = text.strip().partition("=")
    listed, _, given = rest.partition(":")
    members = tuple(member.strip() for member in listed.split(",") if member.strip())
    try:
        weights = tuple(float(weight) for weight in given.split(",")) if given else (1.0,) * len(members)
    except ValueError:
        weights = ()
    if (
        not is_free(name)
        or len(members) < 2
        or len(set(members)) < len(members)
        or len(weights) != len(members)
        or not all(math.isfinite(weight) and weight > 0 for weight in weights)
    ):
        raise ValueError(
            "must be NAME=BUNDLE,BUNDLE or NAME=BUNDLE,BUNDLE:WEIGHT,WEIGHT with different bundles and "
            "weights above 0, such as both=a,b:2,1"
        )
    return EnsembleSetting(name, members, weights)


def load_settings(**options: Any) -> Settings:
    """Settings from `options` that are neither None nor empty, then from the environment; secrets also from
    files. Raises BadSetting.
    """
    given = {name: value for name, value in options.items() if value not in (None, [])}
    for name in SECRETS - set(given):
        if found := read_secret(f"PRELABEL_{name.upper()}", os.environ):
            given[name] = found
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise BadSetting(f"{message}.") from None
        name = str(first["loc"][0])
        found = "" if name in SECRETS else f" = {first['input']!r}"
        raise BadSetting(f"{name} (PRELABEL_{name.upper()}){found}: {message}.") from None


def unknown_variables(environ: Mapping[str, str]) -> str:
    """A line that names the variables PRELABEL_… that nothing reads, each with the closest real name; "" if
    there are none.
    """
    unknown = sorted(
        name
        for name, value in environ.items()
        if name.startswith(PREFIX) and name not in VARIABLES and not OF_OTHERS.match(f"{name}={value}")
    )
    if not unknown:
        return ""
    named = (name + did_you_mean(name, VARIABLES) for name in unknown)
    return one_line(f"no setting has the name of these environment variables: {', '.join(named)}")


def unknown_labels(settings: Settings, labels: Collection[str]) -> str:
    """A line that names the keys of `label_map` that are not among the labels of the models, each with the
    closest label; "" if there are none. A warning only: the map may be for the bundle of the next reload, or
    of another command.
    """
    unknown = [name for name in settings.label_map if name not in labels]
    if not unknown:
        return ""
    named = ", ".join(name + did_you_mean(name, labels) for name in unknown)
    return one_line(
        f"label_map (PRELABEL_LABEL_MAP, --map): no model has the label {named}; the labels are "
        f"{', '.join(labels)}"
    )
