"""Every knob of the server: name, default, unit, meaning. Each is read once, from `PRELABEL_<NAME>` or an option."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.errors import BadSetting
from server.scores import Score


class Settings(BaseSettings):
    """The README's table is written from these descriptions and held to them by a test."""

    model_config = SettingsConfigDict(env_prefix="PRELABEL_", frozen=True)

    bundle: Path = Field(Path("artifacts/imdb-cnn"), description="Folder of the bundle to serve.")
    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` for every network of the host.")
    port: int = Field(9090, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    engine: Literal["auto", "onnx", "torchscript"] = Field("auto", description="`onnx`, `torchscript` (needs torch), or `auto` (= onnx).")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`cuda` refuses to start without a working GPU; `auto` falls back to the CPU and says so."
    )
    engine_threads: int = Field(0, ge=0, le=256, description="Model calls at the same time; 0 = one a CPU core, two on a GPU.")
    bucket_lengths: Annotated[tuple[int, ...], NoDecode] = Field(
        (64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096), description="Padded lengths in tokens, rising, separated by commas."
    )
    batch_tokens: int = Field(8192, ge=1, description="Most padded tokens (rows × length) in one model call.")
    max_wait: float = Field(0.0, ge=0, le=10, description="Seconds a text may wait for company in its batch; 0 takes what is there when an engine is free.")
    bulk_patience: int = Field(8, ge=1, description="Batches of single tasks in a row that may pass a waiting bulk request.")
    max_waiting_rows: int = Field(100_000, ge=1, description="Texts admitted and not yet answered; a request that would pass it is answered 429.")
    max_tasks: int = Field(50_000, ge=1, description="Tasks in one request; more are answered 413.")
    max_body_bytes: int = Field(256 * 2**20, ge=1024, description="Bytes in one request body; more are answered 413.")
    request_timeout: float = Field(95.0, gt=0, description="Seconds until a request is given up and answered 503 (Label Studio gives up after 100).")
    label_map: Annotated[dict[str, str], NoDecode] = Field(
        {}, description="Which choice stands for which of the model's labels, as `Label=choice`, separated by commas."
    )
    score: Score = Field(
        "confidence",
        description="What a prediction's score is: `confidence`, `margin` or `entropy` (see Scores); a backend's `extra_params` go before it.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged; task texts and tokens never are.")

    @field_validator("bucket_lengths", mode="before")
    @classmethod
    def _split_lengths(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("bucket_lengths")
    @classmethod
    def _lengths_rise(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] < 1 or any(a >= b for a, b in pairwise(value)):
            raise ValueError("must be positive numbers that rise, such as 64,128,256")
        return value

    @field_validator("label_map", mode="before")
    @classmethod
    def _split_map(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if any(not (label.strip() and equals and choice.strip()) for label, equals, choice in pairs):
            raise ValueError("must be Label=choice pairs separated by commas, such as Negative=bad,Positive=good")
        return {label.strip(): choice.strip() for label, _, choice in pairs}

    def threads(self, device: str) -> int:
        """Model calls at the same time on `device`."""
        return self.engine_threads or (2 if device == "cuda" else len(os.sched_getaffinity(0)))


def load_settings(**options: Any) -> Settings:
    """The settings from the environment, under the `options` that are not None. Raises BadSetting."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise BadSetting(f"{name} (PRELABEL_{name.upper()}) = {first['input']!r}: {first['msg']}.") from None
