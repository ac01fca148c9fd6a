"""A line for each request, in "cameo.access", and for what becomes of jobs, in "cameo.jobs".

They are to be read, or JSON for what collects logs. Those of requests have a column for memory: what the workers hold,
of what they may. Probes (`/live` and their like) that find all well are of level DEBUG, so that they do not fill the
log.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Final

from cameo.counting import count_of
from cameo.jobs.job import Job, Progress
from cameo.log_lines import TEXT, JsonLines, form_on, log_on_stderr
from cameo.memory.amounts import MIB
from cameo.server.exchange import Exchange

ACCESS: Final = logging.getLogger("cameo.access")
OF_JOBS: Final = logging.getLogger("cameo.jobs")


def log_exchange(exchange: Exchange, used_bytes: int, budget_bytes: int) -> None:
    """Write the line of an exchange that is over."""
    level = logging.DEBUG if exchange.is_probe and exchange.status < 400 else logging.INFO
    if ACCESS.isEnabledFor(level):
        facts = _facts(exchange, used_bytes, budget_bytes)
        ACCESS.log(level, "%s", _line(facts), extra={"facts": facts})


def log_job(event: str, job: Job, progress: Progress, why: str = "") -> None:
    """Write the line of a job that is "taken", "resumed" by the next server, or over: "done", "failed" or "cancelled".

    `why` says what it waits for.
    """
    facts = _there(
        {
            "event": event,
            "job": job.id,
            "key": job.owner,
            "model": job.call.model,
            "seconds": round(max(time.time() - job.created, 0.0), 3),
            "photos": progress.photos,
            **asdict(progress),
            "why_waiting": why,
        }
    )
    OF_JOBS.info("%s", _line_of_job(facts), extra={"facts": facts})


def _facts(exchange: Exchange, used_bytes: int, budget_bytes: int) -> dict[str, Any]:
    """What there is to say of it."""
    answer = exchange.answer
    facts = {
        "request_id": exchange.id,
        "client": exchange.client,
        "key": exchange.key,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(exchange.seconds, 4),
        "received_bytes": exchange.received,
        "sent_bytes": exchange.sent,
        "model": exchange.model,
        "faces": answer.faces if answer else None,
        "parts_s": {part: round(spent, 4) for part, spent in answer.seconds.items()} if answer else None,
        "memory_mib": round(used_bytes / MIB),
        "memory_budget_mib": round(budget_bytes / MIB),
        "reason": exchange.reason,
        "error": exchange.error,
    }
    return _there(facts)


def _there(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts without those that are empty."""
    return {name: value for name, value in facts.items() if value not in ("", None)}


def _line(facts: dict[str, Any]) -> str:
    parts = ", ".join(f"{part} {spent:.3f}" for part, spent in facts.get("parts_s", {}).items())
    said = [
        f"{facts.get('client', '-')} {facts['method']} {facts['path']!r:.200} {facts['status']}",
        f"{facts['seconds']:.3f} s" + (f" ({parts})" if parts else ""),
        *([count_of(facts["faces"], "face")] if "faces" in facts else []),
        f"memory {facts['memory_mib']}/{facts['memory_budget_mib']} MiB",
        *([f"key {facts['key']}"] if "key" in facts else []),
        f"id {facts['request_id']}",
        *([facts["error"]] if "error" in facts else []),
    ]
    return _one_line(said)


def _line_of_job(facts: dict[str, Any]) -> str:
    counts = ", ".join(f"{facts[status]} {status}" for status in ("done", "failed", "waiting"))
    said = [
        f"job {facts['job']} {facts['event']}",
        f"{facts['seconds']:.3f} s",
        f"{count_of(facts['photos'], 'photo')} ({counts})",
        f"model {facts['model']}",
        *([f"key {facts['key']}"] if "key" in facts else []),
        *([facts["why_waiting"]] if "why_waiting" in facts else []),
    ]
    return _one_line(said)


def _one_line(said: Iterable[str]) -> str:
    """All of it, whatever is in it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in ", ".join(said))


def write_logs(form: str = "") -> None:
    """Write what "cameo" logs to standard error, and warnings of others, in one of `FORMS` or as `form_on` says."""
    cameo = logging.getLogger("cameo")
    cameo.addHandler(log_on_stderr(form))
    cameo.setLevel(logging.INFO)
    cameo.propagate = False


def plainly(line: str) -> None:
    """Say a line on standard output."""
    print(line, flush=True)


def sayer(form: str = "") -> Callable[[str], None]:
    """What says on standard output how the server starts: lines as they are, or each as one of the log's in JSON."""
    if form_on(sys.stdout, form) == TEXT:
        return plainly
    lines, told = JsonLines(), {"name": "cameo.server", "levelno": logging.INFO, "levelname": "INFO"}
    return lambda line: print(lines.format(logging.makeLogRecord({**told, "msg": line})), flush=True)
