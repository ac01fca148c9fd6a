"""From photo to photo: one file per model, each with a function `open_flow(sessions, assets, options) -> Flow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cameo.faces.face import Face, Image
from cameo.images import Photo

Progress = Callable[[int, int], None]
"""Told what is done and what there is to do, in steps of whatever the flow counts."""


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
