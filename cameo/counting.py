"""How many there are of what, in words."""

from __future__ import annotations


def count_of(things: int, name: str) -> str:
    """ "1 photo", "2 photos"."""
    return f"{things} {name}{'' if things == 1 else 's'}"
