"""Flows behind the door that `cameo.load` gives them: photos are read, options told apart, one outcome comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cameo.faces.face import Face
from cameo.flows import Flow, FlowModule, Outcome, Progress
from cameo.images import Photo, ReadOptions, read_picture
from cameo.loading import told_apart
from cameo.pixels import Pixels
from cameo.session import Session


class Door:
    """Runs `flow` of a module on one photo, every time with the same request."""

    def __init__(self, module: Any, flow: Flow, request: Any = None) -> None:
        self.flow = flow
        self.request = request or module.Request()
        self.notes, self.finder = flow.notes, flow.finder

    def run(self, photo: Photo, progress: Progress | None = None) -> Outcome:
        options: Any = self.flow
        picture = read_picture(photo, ReadOptions(options.options.max_pixels))
        outcome = self.flow.run({"photo": picture.pixels}, self.request, progress)
        return replace(outcome, note=" ".join(filter(None, (picture.note, outcome.note))))

    def __call__(self, photo: Photo) -> Pixels:
        return self.run(photo).image

    def __getattr__(self, name: str) -> Any:
        return getattr(self.flow, name)


def opened(
    module: Any, sessions: Mapping[str, Session], assets: Mapping[str, Path] | None = None, **chosen: Any
) -> Door:
    """The flow of a module over these sessions, with options for loading and for calls together."""
    as_module: FlowModule = module
    options, request = told_apart(as_module, chosen, sessions)
    return Door(module, as_module.open_flow(sessions, assets or {}, options), request)


class Finds:
    """A finder that always finds these faces."""

    title = "the faces that the test knows"
    most = 750

    def __init__(self, *faces: Face) -> None:
        self.faces = faces

    def __call__(self, image: Pixels) -> list[Face]:
        return list(self.faces)
