"""The server's log: one line an event on stderr, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from ..terminal import printable
from .settings import LogFormat

#: What a request's line says, beside its time and level.
_FIELDS = ("request_id", "client", "method", "path", "status", "model", "seconds")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words = [_time(record), record.levelname.lower(), *record.getMessage().split()]
        words += [f"{name}={value}" for name, value in _fields(record).items()]
        # By a line break in a path a stranger would write a line of the log.
        text = printable(" ".join(words)).replace("\n", r"\n")
        if record.exc_info:
            text += f"\n{printable(self.formatException(record.exc_info))}"
        return text


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "process": record.process,
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configure_logs(log_format: LogFormat) -> None:
    """Send the log of the server, and what uvicorn says of it, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    for name, level in (("torchlift.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
    # What a stranger sends is no warning of ours.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    values = {name: getattr(record, name, None) for name in _FIELDS}
    return {name: value for name, value in values.items() if value is not None}
