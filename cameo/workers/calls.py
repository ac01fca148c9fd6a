"""What goes into workers and comes out: plain data, which a front makes without opening an engine.

A front holds photos as the files that came; a worker decodes, runs and encodes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cameo.workers.breaker import OPEN

FULL, TOO_LATE, BROKEN, ENDING = "full", "late", "broken", "ending"
"""The reasons of `cameo.errors.Busy`: the queue is full; it would come too late; workers fail; the server ends."""
PARTS: Final = ("waited", "loaded", "decoded", "ran", "encoded")
"""Where the seconds of an answer went; "loaded" is 0 but for the call that finds its model closed."""


@dataclass(frozen=True, eq=False)
class Call:
    """One photo or several for a model, and what to do with them.

    `files` are the contents of files by the names of the photos that the model takes, and of the options that are
    pictures; `fields` the other options of the call, as text. `mode` "" is the one that the model is served in.
    `suffix` says what the answer is: ".png", ".jpg" or ".webp"; `quality` 1 to 100 of the last two, None for the usual.
    With `allow_truncated`, files that end early are read as far as they go.
    """

    model: str
    files: Mapping[str, bytes]
    fields: Mapping[str, str] = field(default_factory=dict)
    mode: str = ""
    consent: bool = False
    suffix: str = ".png"
    quality: int | None = None
    allow_truncated: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """The result's file, the number of faces, what was left undone in sentences or "", and seconds by `PARTS`."""

    content: bytes
    faces: int
    note: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """A model to serve: `name` in calls, the bundle's folder, what `cameo.load` is told, and options of its flow.

    `loading` has the names of `cameo.load` (engine, precision, mode, device, threads, low_memory), those that are left
    out as usual there; `options` are text, as on a command line.
    """

    name: str
    bundle: Path
    loading: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkOptions:
    """What a worker is told besides its models: `memory` and `exact` of `cameo.Runtime`, for all models together.

    Photos beyond `max_megapixels` are refused. `signing`: the files of a key and of its certificate (C2PA), or none.
    `log`: the form of what a process of its own logs (`cameo.log_lines`).
    """

    memory: str | int = ""
    exact: bool = True
    max_megapixels: int = 50
    signing: tuple[str, str] | None = None
    log: str = ""


@dataclass(frozen=True)
class Place:
    """Bytes in use and in the budget at a place where engines run; None where nothing tells what is free."""

    used: int
    budget: int | None


@dataclass(frozen=True)
class Opened:
    """A model that a worker holds: the engine of each network, in words, and why its batches are as large as they are.

    `notes` are those of `cameo.loading.Loaded`, a sentence each.
    """

    name: str
    mode: str
    engines: Mapping[str, str]
    batches: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class WorkerState:
    """A worker: memory by place, the models that it holds, the one used last at the end.

    Since it began: `batches` counts runs of networks by their rows ("4": 17), `recoveries` how often memory ran out and
    a smaller batch went through, `loads` how often a model was opened.
    """

    memory: Mapping[str, Place]
    models: tuple[Opened, ...]
    batches: Mapping[str, int]
    recoveries: int
    loads: int


@dataclass(frozen=True)
class Seat:
    """One worker as its front sees it: calls inside, its breaker ("closed", "open", "half-open"), how often it was
    replaced, and what it said last; None before it opened its first model.
    """

    inside: int
    breaker: str
    restarts: int
    worker: WorkerState | None


@dataclass(frozen=True)
class State:
    """A crew: calls that wait in the front, how long a new one would wait, and its workers."""

    waiting: int
    wait_s: float
    seats: tuple[Seat, ...]

    @property
    def inside(self) -> int:
        """Calls that workers have."""
        return sum(seat.inside for seat in self.seats)

    @property
    def ready(self) -> bool:
        """Whether some worker is there to take calls."""
        return any(seat.worker is not None and seat.breaker != OPEN for seat in self.seats)
