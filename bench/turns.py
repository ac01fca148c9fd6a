"""Originals and engines in turns, each in a process of its own: how long they take, and their peak memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cameo.bundle import Bundle
from cameo.session import Tensor
from metrics import timing
from metrics.measurement import find
from metrics.timing import Rounds
from validate.remote import RemoteSession, Spec

ROUNDS = Rounds(least=5, most=10, seconds=60)


@dataclass(frozen=True)
class Turns:
    """What one contender took in each round, ms, and its peak memory, MiB."""

    times: tuple[float, ...]
    peak_rss: float


def taking_turns(
    network: str, checkpoint: Path, bundle: Path, feeds: Mapping[str, Tensor], engines: Sequence[tuple[str, str]]
) -> list[Turns]:
    """The original of `network` and these of its engines (name, precision), each in its own process, on `feeds`."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cameo-bench-")))
        stored = scratch / "feeds.npz"
        np.savez(stored, **dict[str, Any](feeds))
        specs = [Spec("original", network, weights=str(checkpoint))]
        entries = {(entry.engine, entry.precision): entry for entry in Bundle(bundle).network(network).engines}
        specs += [
            Spec(f"{e}-{p}", network, bundle=str(bundle), engine=e, precision=p, mode=entries[e, p].mode)
            for e, p in engines
        ]
        sessions = [stack.enter_context(RemoteSession(spec, scratch)) for spec in specs]
        for session in sessions:
            session.wait()
        times = timing.interleaved([session.timed(stored) for session in sessions], ROUNDS)
        return [Turns(t, session.memory()["peak_rss_mib"] or 0.0) for t, session in zip(times, sessions, strict=True)]


def throughput(original: tuple[float, ...], ours: tuple[float, ...]) -> tuple[float, str]:
    """The ratio of the same rounds, and a sentence with the median times."""
    ratio = find(timing.measurements("", ours, original), "throughput_ratio") or 0.0
    seconds = [float(np.median(found)) / 1000 for found in (ours, original)]
    return ratio, f"{ratio:.2f} × ({seconds[0]:.2f} s against {seconds[1]:.2f} s)"
