"""What processes of a server write for people to read, or as lines of JSON for what collects logs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

TEXT, JSON = "text", "json"
FORMS: Final = (TEXT, JSON)


class JsonLines(logging.Formatter):
    """Each record as one line of JSON, with its `facts` where it has any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        facts = getattr(record, "facts", None)
        line |= facts if facts else {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def error_line(message: str) -> str:
    """What ends a process, as such a line."""
    return JsonLines().format(logging.makeLogRecord({"name": "cameo", "levelname": "ERROR", "msg": message}))


def form_on(stream: TextIO, form: str = "") -> str:
    """One of `FORMS`, where "" is text on a terminal, else JSON."""
    return form or (TEXT if stream.isatty() else JSON)


def log_on_stderr(form: str = "") -> logging.Handler:
    """Write there what this process and its libraries log and warn of; returns what writes it."""
    handler = logging.StreamHandler()
    as_json = form_on(sys.stderr, form) == JSON
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    return handler
