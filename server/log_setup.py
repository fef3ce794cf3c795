"""Log lines, ours and uvicorn's alike: JSON where a program reads them, plain words where a person does.

A line may carry fields: `log.info("request", extra={"fields": {"status": 200}})`. Of an exception the lines
tell the types and the places in the code, and not its own words, for those may quote what a client sent.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

LogFormat = Literal["auto", "json", "text"]

TALKATIVE = ("numba", "asyncio", "httpx", "httpcore")
"""Libraries that would drown everything else at the level debug."""


def start_logging(level: str, form: LogFormat) -> None:
    """Log to stderr from `level` on; `auto` is text on a terminal and JSON elsewhere."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if is_json(form) else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for library in TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)


def is_json(form: LogFormat) -> bool:
    return form == "json" or (form == "auto" and not sys.stderr.isatty())


class JsonLines(logging.Formatter):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info and record.exc_info[1]:
            line["traceback"] = places(record.exc_info[1])
        try:
            return msgspec.json.encode(line).decode()
        except UnicodeEncodeError:
            return json.dumps(line)  # a lone surrogate


class TextLines(logging.Formatter):
    """Time, level, message, and the fields as name=value. What is not printable is shown as its escape: a
    client must not write lines of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        line = printable(f"{time} {record.levelname:<7} {record.getMessage()}{fields}")
        return f"{line}\n{places(record.exc_info[1])}" if record.exc_info and record.exc_info[1] else line


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def printable(text: str) -> str:
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    )


def places(error: BaseException) -> str:
    """Types and places of an exception and of what it came from, the last first."""
    found = []
    each: BaseException | None = error
    while each is not None:
        found.append("".join([*traceback.format_tb(each.__traceback__), type(each).__qualname__]))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\n\nwhich came from\n\n".join(found)
