"""Times two builds of one network in turns, for the build to say which is worth using: INT8 is not always faster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from cameo.backends import SessionOptions, backend
from cameo.discovery import module_path
from metrics.examples import Examples
from metrics.sizes import Size
from metrics.timing import Rounds, interleaved, milliseconds

WORTH_IT = 1.1
"""Times as fast as its rival that INT8 must be, for what it costs in fidelity."""

_ROUNDS = 7


@dataclass(frozen=True)
class CompareSpeed:
    """How many times as fast the build that it is given is, in `precision`, as the file `rival` of the same engine.

    `rival_sha256` makes the comparison's result depend on what the rival is.
    """

    name: ClassVar[str] = "compare-speed"
    output: ClassVar[str] = "speed.json"

    engine: str
    precision: str
    rival: Path
    rival_sha256: str
    rival_precision: str
    size: Size
    batch: int = 1
    examples: Examples = field(default_factory=Examples)

    measures: ClassVar[bool] = True

    @property
    def tools(self) -> tuple[str, ...]:
        """The library that is timed."""
        return backend(self.engine).DISTRIBUTIONS

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The backend that is timed, and what feeds it."""
        return (module_path("cameo.backends", self.engine), *self.examples.rests_on)

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write and return the median over rounds of the rival's time over its own, and the best times.

        Raises:
            EngineError: one of them cannot be run here.
        """
        with ExitStack() as opening:
            pair = [
                opening.enter_context(backend(self.engine).open_session(path, SessionOptions(precision, "cpu")))
                for path, precision in ((source, self.precision), (self.rival, self.rival_precision))
            ]
            feeds = self.examples.of_noise(pair[0].inputs, self.size, self.batch)
            runs = [partial(milliseconds, partial(session.run, feeds)) for session in pair]
            own, theirs = interleaved(runs, Rounds(_ROUNDS, _ROUNDS))
        speedup = round(median(rival / mine for mine, rival in zip(own, theirs, strict=True)), 2)
        facts = {
            "against": self.rival_precision,
            "speedup": speedup,
            "latency_ms": round(min(own), 1),
            "shape": [self.batch, *self.size, 3],
            "recommended": speedup >= WORTH_IT,
        }
        out.write_text(json.dumps(facts, indent=2) + "\n")
        return facts
