"""From photos to a photo: one file per flow, found by its name.

    TAKES: tuple[str, ...]      the photos that it takes, by name: ("photo",), or ("template", "face")
    DIGITAL_SOURCE_TYPE: str    how its results came about, a term of IPTC's vocabulary (docs/decisions/152)
    CONSENT: str                may be left out; one sentence on why those who are shown must agree (docs/decisions/154)
    Options, Request            what is chosen at loading (`FlowOptions`), and what for every call (`Declared`)
    open_flow(sessions, assets, options) -> Flow
    check(networks, options, request)
                                may be left out; an error where a network of a bundle is missing, or one that an option
                                or a call asks for, before any is loaded

Doors (`cameo.load`, the command line, the server, validation) read these declarations, and know no flow by name
(docs/decisions/134).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cameo.declaring import Declared, option
from cameo.discovery import module_in, names_in
from cameo.errors import BundleError
from cameo.faces.face import Face
from cameo.images import MAX_PIXELS, MAX_SIDE
from cameo.pixels import Pixels
from cameo.provenance.record import Provenance
from cameo.session import Session

Progress = Callable[[int, int], None]
"""Told what is done and what there is to do, in steps of whatever the flow counts."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a flow made of its photos: `image` uint8 `(H, W, 3)` RGB, and the faces it worked on, in pixels of `image`.

    `note` says in sentences what was left undone, or "". `source_type` says how it came about where that is not the
    flow's `DIGITAL_SOURCE_TYPE`; `provenance` and `times_s` are what `Loaded.run` makes of it: seconds by name, of
    "read" (the photos), "run" (the flow with its networks) and of each network, waiting for the device included.
    """

    image: Pixels
    faces: tuple[Face, ...] = ()
    note: str = ""
    source_type: str = ""
    provenance: Provenance | None = None
    times_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FlowOptions(Declared):
    """What every flow can be told at loading."""

    max_pixels: int = option(MAX_PIXELS, "larger photos and results are refused", least=1)
    max_side: int = option(MAX_SIDE, "photos with a longer side are refused", least=1, most=MAX_SIDE)


class Flow(Protocol):
    """A model's way from photos to a photo, safe from any thread.

    `notes` say, a sentence each, what stands in for a missing part; `finder` names what finds faces, "" for nothing.
    A flow with a recogniser may offer `recognise(photo, face)` as well (`recogniser_of`).
    """

    notes: Sequence[str]
    finder: str

    def run(self, photos: Mapping[str, Pixels], request: Any, progress: Progress | None = None) -> Outcome:
        """The result of one call; `photos` uint8 `(H, W, 3)` RGB by the names that the flow takes.

        Raises:
            PhotoError: nothing can be made of the photos, or the result would be too large.
            RequestError: the request is not for this model.
        """
        ...

    def find_faces(self, photo: Pixels) -> list[Face]:
        """The faces that the flow's own finder sees; none where it has none."""
        ...

    def describe(self) -> str:
        """One line about what it does with a photo."""
        ...


class FlowModule(Protocol):
    """What the module of a flow offers; `check`, `MEANINGS` and `CONSENT` besides, where there is something to say."""

    TAKES: tuple[str, ...]
    DIGITAL_SOURCE_TYPE: str
    Options: type[FlowOptions]
    Request: type[Declared]

    def open_flow(self, sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Any) -> Flow: ...


def check_networks(module: FlowModule, networks: Collection[str], options: FlowOptions, request: Declared) -> None:
    """Look whether a bundle of networks of these names can do what is asked, as far as the flow can tell.

    Raises:
        BundleError: it lacks a network that the flow cannot do without.
        RequestError: it lacks one that an option or the request asks for.
    """
    if check := getattr(module, "check", None):
        check(networks, options, request)


def meaning_of(module: FlowModule, photo: str) -> str:
    """What one of the photos that a flow takes is, in a few words, or "" where its name says it."""
    meanings: Mapping[str, str] = getattr(module, "MEANINGS", {})
    return meanings.get(photo, "")


def consent_of(module: FlowModule) -> str:
    """Why those who are shown must agree to what a flow makes, in one sentence, or "" where they need not be asked."""
    return str(getattr(module, "CONSENT", ""))


def no_consent(why: str, how: str) -> str:
    """The sentence for who did not say that those who are shown agree; `how` the door that was used takes it."""
    return f"{why.removesuffix('.')}: say that they agree ({how})"


def recogniser_of(flow: Flow) -> Callable[[Pixels, Face], NDArray[np.float32]] | None:
    """A flow's `recognise(photo, face)`, the embedding `(D,)` of a face; None where it cannot tell whose it is."""
    return getattr(flow, "recognise", None)


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
