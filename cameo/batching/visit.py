"""One caller of a device: a photo, or a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class Visit:
    """How many of its rows wait, and its place in the fair order of rows.

    `given_up`: nobody wants its result any more: its rows that wait, or come later, are dropped.
    """

    waiting: int = 0
    next_tag: float = 0.0
    given_up: bool = False
