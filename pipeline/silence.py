"""Tells a stage that hangs from one that is slow.

A stage that gives no sign of life for `SILENCE_S` is ended: no step told, no line logged, no byte written beside its
output. Being busy is no sign: what hangs is busy (docs/decisions/116).
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

from cameo.artifact import size_of
from cameo.errors import StageError

SILENCE_S = 3600
"""How long a stage may be silent. Training, conversions and builders tell each step; the longest silence is that of an
export."""
SILENCE_VARIABLE = "CAMEO_STAGE_SILENCE_S"
"""The environment variable with another limit, for machines on which an hour is not enough."""


class Silence:
    """How long a stage has given no sign of life."""

    def __init__(self, stage: str, log: Path) -> None:
        """
        Raises:
            StageError: the environment names a limit that is no number.
        """
        self._stage, self._log = stage, log
        self._limit = _silence_s()
        self._since, self._written = monotonic(), -1

    @property
    def until_the_next_look(self) -> float:
        """Seconds: short beside the limit, and to people who wait."""
        return min(self._limit / 100, 5)

    def end(self) -> None:
        """The stage told something."""
        self._since = monotonic()

    def check(self) -> None:
        """Raises StageError if the stage wrote nothing either, for too long."""
        written = self._written
        with suppress(FileNotFoundError):  # a file that the stage removes meanwhile
            written = size_of(self._log.parent)
        if written != self._written:
            self._written = written
            self.end()
        elif monotonic() - self._since > self._limit:
            raise StageError(
                f"{self._stage} gave no sign of life for {self._limit:g} s (no step, no output) and was ended: its "
                f"last output was '{last_line(self._log)}'; if it only is slow, set {SILENCE_VARIABLE} to more seconds"
            )


def _silence_s() -> float:
    given = os.environ.get(SILENCE_VARIABLE, str(SILENCE_S))
    try:
        limit = float(given)
    except ValueError:
        limit = 0
    if not limit > 0:
        raise StageError(f"{SILENCE_VARIABLE} is '{given}': expected a number of seconds above 0")
    return limit


def lines(answers: int, silence: Silence) -> Iterator[bytes]:
    """The whole lines that come through a pipe until its other end is closed; an empty one while none comes.

    Raises:
        StageError: none came for too long, nor anything else.
    """
    rest = b""
    while True:
        if not select.select([answers], [], [], silence.until_the_next_look)[0]:
            silence.check()
            yield b""
            continue
        part = os.read(answers, 2**16)
        if not part:
            return  # a line that is not whole is what the child died over
        silence.end()
        *whole, rest = (rest + part).split(b"\n")
        yield from whole


def last_line(log: Path) -> str:
    """The last words of a stage; "" where it had none."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-300:] if lines else ""
