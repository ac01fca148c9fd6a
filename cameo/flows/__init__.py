"""From photos to a photo: one file per flow, found by its name.

    TAKES: tuple[str, ...]      the photos that it takes, by name: ("photo",), or ("template", "face")
    Options, Request            what is chosen at loading (`FlowOptions`), and what for every call (`Declared`)
    open_flow(sessions, assets, options) -> Flow

Doors (`cameo.load`, the command line, the server, validation) read these declarations, and know no flow by name
(docs/decisions/134).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from cameo.discovery import module_in, names_in
from cameo.errors import BundleError
from cameo.faces.face import Face, Image
from cameo.images import MAX_PIXELS
from cameo.options import Declared, option
from cameo.session import Session

Progress = Callable[[int, int], None]
"""Told what is done and what there is to do, in steps of whatever the flow counts."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a flow made of its photos: `image` uint8 `(H, W, 3)` RGB, and the faces it worked on, in pixels of `image`.

    `note` says in sentences what was left undone, or "".
    """

    image: Image
    faces: tuple[Face, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class FlowOptions(Declared):
    """What every flow can be told at loading."""

    max_pixels: int = option(MAX_PIXELS, "larger photos and results are refused", least=1)


class Flow(Protocol):
    """A model's way from photos to a photo, safe from any thread.

    `notes` say, a sentence each, what stands in for a missing part; `finder` names what finds faces, "" for nothing.
    """

    notes: Sequence[str]
    finder: str

    def run(self, photos: Mapping[str, Image], request: Any, progress: Progress | None = None) -> Outcome:
        """The result of one call; `photos` uint8 `(H, W, 3)` RGB by the names that the flow takes.

        Raises:
            PhotoError: nothing can be made of the photos, or the result would be too large.
            RequestError: the request is not for this model.
        """
        ...

    def find_faces(self, photo: Image) -> list[Face]:
        """The faces that the flow's own finder sees; none where it has none."""
        ...

    def describe(self) -> str:
        """One line about what it does with a photo."""
        ...


class FlowModule(Protocol):
    """What the module of a flow offers."""

    TAKES: tuple[str, ...]
    Options: type[FlowOptions]
    Request: type[Declared]

    def open_flow(self, sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Any) -> Flow: ...


def flow_names() -> list[str]:
    """The flows that this version has, sorted."""
    return names_in(sys.modules[__name__])


def flow_module(name: str) -> FlowModule:
    """The module of the flow called `name`.

    Raises:
        BundleError: this version has none.
    """
    module = module_in(sys.modules[__name__], name)
    if module is None:
        raise BundleError(
            f"the bundle wants the flow '{name}', which this version does not have (it has {', '.join(flow_names())}): "
            "build it again with this version, or install the one that built it"
        )
    return cast(FlowModule, module)
