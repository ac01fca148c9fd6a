"""Tells how far a long stage is: as log lines, which `pipeline.child` passes on to the bar of the command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, each announced ("calibrating 3 of 20")."""
    for index, item in enumerate(items):
        log.info("%s %d of %d", what, index + 1, len(items), extra={"progress": (what, index, len(items))})
        yield item
