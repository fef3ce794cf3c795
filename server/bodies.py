"""JSON in and out: bodies within bounds, and refusals that name the field."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from server.admission import Held
from server.errors import BadRequest, BodyTimeout, ClientLeft, RequestTooLarge

T = TypeVar("T")

MOST_CONTAINERS, MOST_VALUES = 2_000_000, 20_000_000
"""Lists and objects, and values of any kind, in one body. An empty list takes three bytes of a body and
seventy of memory, and while millions are made nobody else is answered. A task of Label Studio's has about ten
of the one and fifty of the other.
"""

COUNTED = 2**20
"""Bytes that are counted at a time."""

LARGE_BODY = 1_000_000
"""Bytes from which a body is parsed in a thread."""

LONGEST_CONFIG = 500_000
"""Characters of a labeling config: hundreds are kept, read, so that they need not be read again."""


@dataclass(frozen=True)
class BodyBounds:
    """`max_bytes` of a body, seconds of `pause` between two parts of it, and seconds of `timeout` for all."""

    max_bytes: int
    pause: float
    timeout: float

    def check(self, size: int) -> None:
        """Raises RequestTooLarge."""
        if size > self.max_bytes:
            raise RequestTooLarge(
                f"The body is larger than {self.max_bytes} bytes (PRELABEL_MAX_BODY_BYTES). Send fewer "
                "tasks at once."
            )


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return msgspec.json.encode(content)
        except UnicodeEncodeError:
            return json.dumps(content).encode()  # a lone surrogate, which goes out as it came in


class Task(msgspec.Struct, gc=False):
    """What is read of a task. Two dozen other fields come with it; they are passed over and never built."""

    data: Annotated[
        Any,
        Meta(description="The task's columns, an object; what has no text in them gets an empty prediction."),
    ] = None


class Usual(msgspec.Struct):
    """A request for predictions as Label Studio writes it. Other fields are passed over."""

    tasks: list[Task]
    label_config: Annotated[str, Meta(min_length=1, description="The project's labeling config.")]
    project: Annotated[Any, Meta(description="Label Studio's name for the project.")] = None


_usual = msgspec.json.Decoder(Usual)


def server_timing(seconds: Mapping[str, float]) -> str:
    """The value of a Server-Timing header (W3C, "Server Timing"): milliseconds a stage."""
    return ", ".join(f"{stage};dur={spent * 1000:.3f}" for stage, spent in seconds.items())


def tasks_of(body: Mapping[str, Any], most: int) -> list[Any]:
    """The `data` of each of the body's tasks, None for one without. Raises BadRequest, RequestTooLarge."""
    tasks = body.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequest(f"tasks: expected a list of tasks, found {kind_of(tasks)}.")
    if len(tasks) > most:
        raise RequestTooLarge(
            f"tasks: {len(tasks)} in one request; the limit is {most} (PRELABEL_MAX_TASKS). Send fewer "
            "at once."
        )
    return [
        task.data if isinstance(task, Task) else task.get("data") if isinstance(task, dict) else None
        for task in tasks
    ]


async def read_object(request: Request, bounds: BodyBounds, empty: bytes = b"") -> dict[str, Any]:
    """The body as a JSON object; no body at all is read as `empty`. Raises BadRequest and what `read_body`
    raises.
    """
    return await parse_object(await read_body(request, bounds) or bytearray(empty))


async def read_body(request: Request, bounds: BodyBounds, held: Held | None = None) -> bytearray:
    """The body, its bytes counted to what is `held`. Raises BodyTimeout, ClientLeft, Overloaded,
    RequestTooLarge.
    """
    body = bytearray()
    told = request.headers.get("content-length", "")
    if told.isdecimal():
        # refused before it is read; whoever tells less than he sends is met below
        size = int(told[:20])  # of so many digits already too large, and of thousands no number to Python
        bounds.check(size)
        if held is not None:
            held.announce(size)
    loop = asyncio.get_running_loop()
    last = loop.time() + bounds.timeout
    try:
        async with asyncio.timeout_at(min(last, loop.time() + bounds.pause)) as limit:
            async for chunk in request.stream():
                body += chunk
                bounds.check(len(body))
                if held is not None:
                    held.grow(len(chunk))
                limit.reschedule(min(last, loop.time() + bounds.pause))
    except ClientDisconnect:
        raise ClientLeft("The client left before its body was complete.") from None
    except TimeoutError:
        raise BodyTimeout(
            f"The body stopped coming after {len(body)} bytes: no more for {bounds.pause:g} s "
            f"(PRELABEL_BODY_TIMEOUT), or not all within {bounds.timeout:g} s."
        ) from None
    return body


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Ends the block when the client is gone. To be used when the body has been read. Raises ClientLeft."""
    mine = asyncio.current_task()
    assert mine is not None  # noqa: S101 - this is a coroutine
    left = False

    async def watch() -> None:
        nonlocal left
        await request.receive()  # after the body nothing comes but this
        left = True
        mine.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        mine.uncancel()
        raise ClientLeft("The client left before it was answered.") from None
    finally:
        watcher.cancel()


async def parse_object(body: bytearray) -> dict[str, Any]:
    """Raises BadRequest."""
    return await parsed(_object, body)


async def parse_tasks(body: bytearray) -> dict[str, Any]:
    """As `parse_object`, with `Task`s for the tasks where they are all as usual. Raises BadRequest."""
    return await parsed(_tasks, body)


async def parsed(parse: Callable[[bytearray], T], body: bytearray) -> T:
    """`parse` of a body, in a thread for a large one. Raises what `parse` raises, and RequestTooLarge for too
    many values.
    """
    if len(body) <= LARGE_BODY:
        return parse(body)
    await asyncio.to_thread(_check_values, body)
    return await asyncio.to_thread(parse, body)


def _check_values(body: bytearray) -> None:
    """Counts the signs that values begin with or stand between, also those in texts. Raises RequestTooLarge."""
    if len(body) <= MOST_CONTAINERS:
        return  # too small for so many
    found = dict.fromkeys("[{,", 0)
    for begin in range(0, len(body), COUNTED):
        part = np.frombuffer(body, np.uint8, min(COUNTED, len(body) - begin), begin)
        for sign in found:
            found[sign] += np.count_nonzero(part == ord(sign))
    if found["["] + found["{"] > MOST_CONTAINERS or found[","] > MOST_VALUES:
        raise RequestTooLarge(
            "The body holds about "
            f"{found['['] + found['{']:,} lists and objects and {found[',']:,} other values; the most are {MOST_CONTAINERS:,} and "
            f"{MOST_VALUES:,}. Send fewer tasks at once."
        )


def _tasks(body: bytearray) -> dict[str, Any]:
    try:
        return msgspec.structs.asdict(_usual.decode(body))
    except (ValueError, RecursionError):
        return _object(body)  # which says what is wrong, if it is


def _object(body: bytearray) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        value = _by_the_library(body, error)
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, found {kind_of(value)}.")
    return value


def _by_the_library(body: bytearray, problem: Exception) -> Any:
    """Lone surrogates and NaN, which Label Studio passes on, are beyond msgspec; the standard library takes
    them.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"The body is not JSON: {problem}.") from None


def label_config_of(body: Mapping[str, Any], field: str) -> str:
    """The labeling config in `field`. Raises BadRequest, RequestTooLarge."""
    config = body.get(field)
    if isinstance(config, str) and len(config) > LONGEST_CONFIG:
        raise RequestTooLarge(
            f"{field}: a labeling config of {len(config)} characters; the limit is {LONGEST_CONFIG}."
        )
    if not isinstance(config, str) or not config.strip():
        raise BadRequest(f"{field}: expected the labeling config as text, found {kind_of(config)}.")
    return config


def kind_of(value: object) -> str:
    """What a value of JSON is, in words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }
    return names.get(type(value), type(value).__name__)
