"""A flow for tests of the server that takes two photos, and for a call a mask and a share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cameo.declaring import Declared, option
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.images import Photo
from cameo.pixels import Pixels
from cameo.session import Session
from tests.support.flows.inverter import Inverter

TAKES = ("template", "face")
DIGITAL_SOURCE_TYPE = "algorithmicallyEnhanced"


@dataclass(frozen=True)
class Options(FlowOptions):
    """None of its own."""

    OF: ClassVar[str] = "test"


@dataclass(frozen=True)
class Request(Declared):
    """A mask and a share."""

    OF: ClassVar[str] = "test"

    mask: Photo | None = option(None, "a picture")
    share: float = option(1.0, "how much", least=0, most=1)


class Mixer(Inverter):
    """Half of the template and a quarter of the face, of one size."""

    def run(self, photos: Mapping[str, Pixels], request: Request, progress: Progress | None = None) -> Outcome:  # type: ignore[override]
        masked = "" if request.mask is None else " masked"
        return Outcome(photos["template"] // 2 + photos["face"] // 4, note=f"{request.share:g}{masked}")


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> Mixer:
    return Mixer(sessions["net"])
