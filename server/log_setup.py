"""Log format of Prelabel and uvicorn: JSON lines for programs, plain text for a terminal.

A line may have fields: `log.info("request", extra={"fields": {"status": 200}})`. For an exception, the log
shows types and positions in the code but not its message, which may quote client input.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

LogFormat = Literal["auto", "json", "text"]

VERBOSE_LIBRARIES = ("numba", "asyncio", "httpx", "httpcore")
"""Libraries that log too much at level debug; they log warnings only."""


def start_logging(level: str, form: LogFormat) -> None:
    """Log to stderr, from `level` up. `auto` is text on a terminal, otherwise JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if is_json(form) else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for library in VERBOSE_LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)


def is_json(form: LogFormat) -> bool:
    return form == "json" or (form == "auto" and not sys.stderr.isatty())


class JsonLines(logging.Formatter):
    """One JSON object per line."""

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
            line["traceback"] = traceback_without_messages(record.exc_info[1])
        try:
            return msgspec.json.encode(line).decode()
        except UnicodeEncodeError:
            return json.dumps(line)  # a lone surrogate


class TextLines(logging.Formatter):
    """Time, level, message, and the fields as name=value. Non-printable characters are escaped, so that
    clients cannot inject lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        line = printable(f"{time} {record.levelname:<7} {record.getMessage()}{fields}")
        return (
            f"{line}\n{traceback_without_messages(record.exc_info[1])}"
            if record.exc_info and record.exc_info[1]
            else line
        )


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def printable(text: str) -> str:
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    )


def traceback_without_messages(error: BaseException) -> str:
    """Types and positions of an exception and its causes, the latest first."""
    parts = []
    each: BaseException | None = error
    while each is not None:
        parts.append("".join([*traceback.format_tb(each.__traceback__), type(each).__qualname__]))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\n\ncaused by\n\n".join(parts)
