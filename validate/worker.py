"""The child process that holds one session: an original, one engine of a bundle, or a whole flow on either.

    python -m validate.worker SPEC.json

`SPEC.json` holds the fields of `validate.remote.Spec`. It answers requests, one JSON object a line:

    (when loaded)                            {"ready": true}
    {"feeds": NPZ, "out": NPZ or ""}         {"latency_ms": 12.3}, the outputs written to `out` unless that is ""
    {"memory": true}                         {"peak_rss_mib": 412.0, "vram_mib": null}
    anything that fails                      {"error": "EngineError", "message": "..."}

Answers go to what was standard output at the start; what libraries print there later goes to the log with the rest.
Only what serving needs is imported here, so that the memory of an engine's process is that of a serving process.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cameo import errors
from cameo.errors import CameoError
from cameo.session import Session
from metrics.memory import peak_rss_mib, vram_mib


def open_session(spec: Mapping[str, Any]) -> Session:
    """The session that `spec` names.

    Raises:
        CameoError: whatever loading it raises.
    """
    if spec["flow"]:
        from validate.flow_session import open_flow

        return open_flow(spec)
    if spec["weights"]:
        from exporters import open_original

        return open_original(spec["network"], Path(spec["weights"]), spec["parts"].get(spec["network"], ""))
    from cameo.backends import SessionOptions, backend
    from cameo.bundle import Bundle
    from cameo.noise import with_noise

    bundle = Bundle(spec["bundle"])
    entry = next(
        e
        for e in bundle.network(spec["network"]).engines
        if (e.engine, e.precision, e.mode) == (spec["engine"], spec["precision"], spec["mode"])
    )
    options = SessionOptions(spec["precision"], spec["device"], spec["threads"])
    session = backend(entry.engine).open_session(bundle.verified(entry.file), options)
    return with_noise(session, bundle.network(spec["network"]).inputs)


def answer(session: Session, request: Mapping[str, Any]) -> dict[str, Any]:
    """What to reply to one request."""
    if "memory" in request:
        return {"peak_rss_mib": peak_rss_mib(), "vram_mib": vram_mib()}
    with np.load(request["feeds"]) as stored:
        feeds = dict(stored)
    started = time.perf_counter()
    outputs = session.run(feeds)
    latency_ms = (time.perf_counter() - started) * 1000
    if request["out"]:
        np.savez(request["out"], **dict[str, Any](outputs))
    return {"latency_ms": latency_ms}


def _failure(error: Exception) -> dict[str, Any]:
    """The answer to a request that failed; the traceback goes to the log."""
    traceback.print_exc()
    if isinstance(error, CameoError):
        public = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        return {"error": public, "message": str(error)}
    reason = (str(error).strip().splitlines() or [""])[0][:300]
    return {"error": "EngineError", "message": f"{type(error).__name__}: {reason}"}


def main(spec_file: str, open_session: Callable[[Mapping[str, Any]], Session] = open_session) -> int:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(fields: Mapping[str, Any]) -> None:
        answers.write(json.dumps(fields) + "\n")

    try:
        session = open_session(json.loads(Path(spec_file).read_text()))
    except Exception as error:  # every failure must reach the parent, whatever library raised it
        reply(_failure(error))
        return 1
    reply({"ready": True})
    with session:
        for line in sys.stdin:
            try:
                reply(answer(session, json.loads(line)))
            except Exception as error:  # as above
                reply(_failure(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
