"""GPEN: every face of a photo restored and put back, the rest enlarged if asked.

    photo -> [enlarged, in tiles] -> faces, best first -> aligned crops -> the generator, some crops at a time
    restored crop -> where it is face -> soft mask -> [smoothed, if the face is small] -> [mixed with the crop]
    -> put into the photo where its mask beats those of the faces before

The numbers are those of the original (`FaceEnhancement.process`). Knowingly different are:

    * a face's score is its score: the original divides it by the scale of a shrunk photo, 0.99 -> 1.5, and so lets
      every face of a photo beyond 1500 px pass its threshold (`cameo/faces/retinaface.py`);
    * an enlarged photo is exactly `scale` times as large: the original adds a row to an odd height, and a column;
    * enlarging by 1 works in tiles, where the original leaves it out, and tiles have no seams (`cameo/tiles.py`);
    * faces run in batches and are put back one by one within their rectangle: besides the photo, the result and one
      mask, memory holds one batch, however many faces there are;
    * a face whose five points coincide or are not numbers is left as it is, and `note` says so;
    * a photo without colour stays without: the original tints its faces (`cameo/colour.py`);
    * a face that the photo's border cuts sees the photo mirrored there, not black, and its mask fades out before the
      border: the original's outermost line is 10 to 23 levels darker than the next (`cameo/faces/paste.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from cameo.colour import as_colourless_as
from cameo.errors import BundleError, PhotoTooLarge
from cameo.faces.cascade import CascadeFinder
from cameo.faces.face import Face, Finder
from cameo.faces.restoring import FaceRestorer, resize
from cameo.faces.retinaface import MIN_SCORE, RetinaFaceFinder
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.options import Declared, option
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.tiles import FOLD, MIN_TILE, Enlarger

TAKES: Final = ("photo",)
GENERATOR, FINDER, PARSER, ENLARGER = "gpen-bfr-", "retinaface-r50", "parsenet", "realesrnet-x"


@dataclass(frozen=True)
class Options(FlowOptions):
    """Whether photos are enlarged as well, and in tiles of how many pixels a side (None: all at once)."""

    OF: ClassVar[str] = "gpen"

    sr: bool = option(False, "enlarge the photo as well")
    tile: int | None = option(256, "side of the tiles of sr, or none", least=MIN_TILE, step=FOLD, none="none")


@dataclass(frozen=True)
class Request(Declared):
    """Which faces are restored, and how much of that shows."""

    OF: ClassVar[str] = "gpen"

    aligned: bool = option(False, "the photo is one aligned face")
    alpha: float = option(1.0, "share of the restored face", least=0, most=1)
    max_faces: int | None = option(None, "restore only so many, those of the best score", least=1)


class GpenFlow:
    """Restores the faces of photos with `restorer`; `finder` says where they are.

    `enlarger`, wanted by the option `sr`, enlarges the photo first. `notes` say, a sentence each, what stands in for a
    missing part.
    """

    def __init__(
        self,
        restorer: FaceRestorer,
        finder: Finder,
        enlarger: Enlarger | None = None,
        options: Options | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._restorer = restorer
        self._finder = finder
        self._enlarger = enlarger
        self.options = options or Options()
        self.notes = list(notes)
        self.finder = finder.title

    def run(self, photos: Mapping[str, Pixels], request: Request, progress: Progress | None = None) -> Outcome:
        """The restored `photo`, of its size or as often as large as it is enlarged; `progress(done, faces)`.

        Raises:
            PhotoTooLarge: the result would be.
        """
        pixels = photos["photo"]
        outcome = self._aligned(pixels) if request.aligned else self._restored(pixels, request, progress)
        return replace(outcome, image=as_colourless_as(pixels, outcome.image))

    def find_faces(self, photo: Pixels) -> list[Face]:
        """The faces of a photo that are worth restoring, best first."""
        found = [face for face in self._finder(photo) if face.score >= MIN_SCORE]
        return sorted(found, key=lambda face: -face.score)  # most finders sort them already

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        enlarged = f", the photo enlarged by {self._enlarger.scale}" if self._enlarger and self.options.sr else ""
        return f"GPEN restores faces at {self._restorer.size} px, found by {self.finder}{enlarged}"

    def _aligned(self, photo: Pixels) -> Outcome:
        return Outcome(self._enlarged(self._restorer.restore_aligned(photo)))

    def _restored(self, pixels: Pixels, request: Request, progress: Progress | None) -> Outcome:
        base = self._enlarged(pixels)
        if base is not pixels:
            pixels = resize(pixels, (base.shape[1], base.shape[0]))
        found = self.find_faces(pixels)
        chosen = found[: request.max_faces]
        image, restored = self._restorer.restore(pixels, base, chosen, request.alpha, progress)
        return Outcome(image, tuple(restored), _note(len(found), len(chosen), len(restored)))

    def _enlarged(self, photo: Pixels) -> Pixels:
        """The photo enlarged, or itself where that is not asked for."""
        if not self.options.sr:
            return photo
        if self._enlarger is None:
            raise BundleError(_NO_ENLARGER)
        height, width = (side * self._enlarger.scale for side in photo.shape[:2])
        if height * width > self.options.max_pixels:
            raise PhotoTooLarge(
                f"Enlarged, the photo would be {width}x{height}, {height * width:,} pixels, expected at most "
                f"{self.options.max_pixels:,}: shrink it, or leave out sr."
            )
        return self._enlarger(photo)


def _note(found: int, chosen: int, restored: int) -> str:
    if found == 0:
        return "No face was found, so none was restored."
    notes = [f"Of {found} faces only the {chosen} of the best score were to be restored."] if chosen < found else []
    if restored < chosen:
        notes.append(f"{chosen - restored} of {chosen} faces stayed as they are: their five points tell no place.")
    return " ".join(notes)


_NO_ENLARGER = (
    "The bundle has no network realesrnet-x1, -x2 or -x4, expected one for the option sr: build it with its weights, "
    "or leave out sr."
)


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> GpenFlow:
    """The flow over the networks of a bundle; `assets` are not needed.

    Without retinaface-r50, OpenCV's cascades find the faces; without parsenet, the mask is a rectangle; `notes` says
    so.

    Raises:
        BundleError: the generator is missing, or the enlarger where the option `sr` asks for it.
    """
    generator = _only(sessions, GENERATOR)
    if generator is None:
        raise BundleError(f"The bundle has no network {GENERATOR}SIZE, expected one: build it again.")
    enlarger = _only(sessions, ENLARGER)
    if options.sr and enlarger is None:
        raise BundleError(_NO_ENLARGER)
    notes: list[str] = []
    finder = _finder(sessions, notes)
    return GpenFlow(
        FaceRestorer(sessions[generator], int(generator.removeprefix(GENERATOR)), _parser(sessions, notes)),
        finder,
        Enlarger(sessions[enlarger], int(enlarger.removeprefix(ENLARGER)), options.tile) if enlarger else None,
        options,
        notes,
    )


def _only(sessions: Mapping[str, Session], start: str) -> str | None:
    """The name of the network that begins so and ends in a number, if there is one."""
    return next((name for name in sessions if name.startswith(start) and name.removeprefix(start).isdigit()), None)


def _finder(sessions: Mapping[str, Session], notes: list[str]) -> Finder:
    if FINDER in sessions:
        return RetinaFaceFinder(sessions[FINDER])
    notes.append(f"The bundle lacks {FINDER}: OpenCV's Haar cascades stand in and find frontal faces only.")
    return CascadeFinder()


def _parser(sessions: Mapping[str, Session], notes: list[str]) -> Session | None:
    if PARSER not in sessions:
        notes.append(f"The bundle lacks {PARSER}: faces are put back by a rectangle with a soft rim.")
    return sessions.get(PARSER)
