"""From photo to photo: one file per model, each with a function `open_flow(sessions, assets, options) -> Flow`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from cameo.errors import CameoError
from cameo.faces.face import Face, Image
from cameo.images import Photo

Progress = Callable[[int, int], None]
"""Told what is done and what there is to do, in steps of whatever the flow counts."""


Options = TypeVar("Options")


def options_of(kind: type[Options], flow: str, given: Mapping[str, object]) -> Options:
    """The options of a flow, a dataclass that checks its values itself, from those that were given by name.

    Raises:
        CameoError: one is unknown or out of range.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(given) - known)
    if unknown:
        raise CameoError(f"{flow} has no option {', '.join(unknown)}, expected one of {', '.join(sorted(known))}.")
    chosen: Any = given
    return kind(**chosen)


class Outcome(Protocol):
    """What a flow made of a photo: `image` uint8 `(H, W, 3)` RGB, and the faces it worked on, in pixels of `image`.

    `note` says in a sentence what was left undone, or "".
    """

    @property
    def image(self) -> Image: ...
    @property
    def faces(self) -> tuple[Face, ...]: ...
    @property
    def note(self) -> str: ...


class Flow(Protocol):
    """A model's way from photo to photo; `notes` say, a sentence each, what stands in for a missing part."""

    notes: list[str]

    def run(self, photo: Photo, progress: Progress | None = None) -> Outcome:
        """The photo's result.

        Raises:
            PhotoError: the photo cannot be read, or it or its result is too large.
        """
        ...

    def describe(self) -> str: ...
