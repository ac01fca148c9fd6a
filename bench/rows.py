"""The rows of a bench: what was promised, what was measured, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from validate import provenance

Say = Callable[[str], None]

_VERDICTS = {True: "holds", False: "**fails**", None: ""}


@dataclass(frozen=True)
class Row:
    """One promise: what was measured, and whether it holds (None: there is no target, or it was not measured)."""

    what: str
    target: str
    measured: str
    holds: bool | None


def at_least(what: str, limit: float, value: float, told: str, of: str = "×") -> Row:
    """A row that holds where `value` is `limit` or more; a value that is no number never holds."""
    return Row(what, f"≥ {limit:g} {of}", told, value >= limit)


def at_most(what: str, limit: float, value: float, told: str, of: str) -> Row:
    """A row that holds where `value` is `limit` or less; a value that is no number never holds."""
    return Row(what, f"≤ {limit:g} {of}", told, value <= limit)


def failed(rows: Iterable[Row]) -> list[Row]:
    """The rows whose promise does not hold."""
    return [row for row in rows if row.holds is False]


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | target | measured | |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {r.what} | {r.target} | {r.measured} | {_VERDICTS[r.holds]} |" for r in rows])


def measured_on(libraries: Iterable[str], load: float) -> str:
    """One sentence: the day, the machine, the load of others when it began, and the version of every library."""
    device = ", ".join(f"{name} {value}" for name, value in provenance.device().items())
    versions = ", ".join(f"{name} {value}" for name, value in provenance.versions(libraries).items())
    return f"Measured {date.today()} on {device}, under a load of {load:.1f} when it began; {versions}."
