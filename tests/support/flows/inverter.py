"""A flow for tests of the server: whatever its network gives, with two faces and a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cameo.declaring import Declared, option
from cameo.faces.face import Face
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.pixels import Pixels
from cameo.session import Session

TAKES = ("photo",)
DIGITAL_SOURCE_TYPE = "algorithmicallyEnhanced"
FACES: Any = (1, 2)  # which are counted, no more


@dataclass(frozen=True)
class Options(FlowOptions):
    """None of its own."""

    OF: ClassVar[str] = "test"


@dataclass(frozen=True)
class Request(Declared):
    """Whether it says anything."""

    OF: ClassVar[str] = "test"

    quiet: bool = option(False, "no note")


class Inverter:
    """Runs its network on the photo."""

    notes: Sequence[str] = ()
    finder = ""

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, photos: Mapping[str, Pixels], request: Request, progress: Progress | None = None) -> Outcome:
        result = self._session.run({"image": photos["photo"][None]})["result"][0]
        return Outcome(result, FACES, "" if request.quiet else "Grün: 100 %.")

    def find_faces(self, photo: Pixels) -> list[Face]:
        return []

    def describe(self) -> str:
        return "an inverter"


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> Inverter:
    return Inverter(sessions["net"])
