"""GPEN: every face of a photo restored and put back, the rest enlarged if asked.

    photo -> [enlarged, in tiles] -> faces, best first -> aligned crops -> the generator, some crops at a time
    restored crop -> where it is face -> soft mask -> [smoothed, if the face is small] -> [mixed with the crop]
    -> put into the photo where its mask beats those of the faces before

The numbers are those of the original (`FaceEnhancement.process`). Knowingly different are:

    * a face's score is its score: the original divides it by the scale of a shrunk photo, 0.99 -> 1.5, and so lets
      every face of a photo beyond 1500 px pass its threshold (`cameo/faces/finders/retinaface.py`);
    * an enlarged photo is exactly `scale` times as large: the original adds a row to an odd height, and a column;
    * enlarging by 1 works in tiles, where the original leaves it out, and tiles have no seams (`cameo/tiles.py`);
    * faces run in batches and are put back one by one within their rectangle: besides the photo, the result and one
      mask, memory holds one batch, however many faces there are;
    * at most 100 faces are restored unless more are asked for, and `note` says so where there are more;
    * a face whose five points coincide or are not numbers is left as it is, and `note` says so;
    * a photo without colour stays without: the original tints its faces (`cameo/colour.py`);
    * a face that the photo's border cuts sees the photo mirrored there, not black, and its mask fades out before the
      border: the original's outermost line is 10 to 23 levels darker than the next (`cameo/faces/paste.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from cameo.colour import as_colourless_as
from cameo.declaring import Declared, option
from cameo.enlarging import ENLARGER, NO_ENLARGER, enlarged, enlarger_of, only, tile_option
from cameo.errors import BundleError, RequestError
from cameo.faces.counting import counted
from cameo.faces.face import Face, Finder
from cameo.faces.finders.cascade import CascadeFinder
from cameo.faces.finders.retinaface import MIN_SCORE, RetinaFaceFinder
from cameo.faces.restoring import ALIGNED, FaceRestorer, aligned_face, resize
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.size_rule import fit, size_rule_option
from cameo.tiles import Enlarger

TAKES: Final = ("photo",)
MOST_FACES: Final = 100  # unless more are asked for (docs/decisions/200)
DIGITAL_SOURCE_TYPE: Final = "algorithmicallyEnhanced"
GENERATOR, FINDER, PARSER = "gpen-bfr-", "retinaface-r50", "parsenet"


@dataclass(frozen=True)
class Options(FlowOptions):
    """Whether photos are enlarged as well, and in tiles of how many pixels a side (None: all at once)."""

    OF: ClassVar[str] = "gpen"

    sr: bool = option(False, "enlarge the photo as well", needs=ENLARGER)
    tile: int | None = tile_option()


@dataclass(frozen=True)
class Request(Declared):
    """Which faces are restored, and how much of that shows."""

    OF: ClassVar[str] = "gpen"

    aligned: bool = option(False, "the photo is one aligned face")
    alpha: float = option(1.0, "share of the restored face", least=0, most=1)
    max_faces: int | None = option(
        MOST_FACES, "restore at most so many, those of the best score, or all", least=1, none="all"
    )
    size_rule: str = size_rule_option()


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
        """The restored `photo`, of its size or as often as large as it is enlarged.

        `progress(done, all)` counts the tiles that are enlarged, then the faces.

        Raises:
            PhotoTooLarge: the result would be.
        """
        pixels = photos["photo"]
        outcome = self._aligned(pixels, request) if request.aligned else self._restored(pixels, request, progress)
        return replace(outcome, image=as_colourless_as(pixels, outcome.image))

    def find_faces(self, photo: Pixels) -> list[Face]:
        """The faces of a photo that are worth restoring, best first."""
        found = [face for face in self._finder(photo) if face.score >= MIN_SCORE]
        return sorted(found, key=lambda face: -face.score)  # most finders sort them already

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        enlarged = f", the photo enlarged by {self._enlarger.scale}" if self._enlarger and self.options.sr else ""
        return f"GPEN restores faces at {self._restorer.size} px, found by {self.finder}{enlarged}"

    def _aligned(self, photo: Pixels, request: Request) -> Outcome:
        image = self._enlarged(self._restorer.restore_aligned(photo, request.alpha))
        return Outcome(image, (aligned_face(image),), ALIGNED)

    def _restored(self, pixels: Pixels, request: Request, progress: Progress | None) -> Outcome:
        base = self._enlarged(pixels, progress)
        if base is not pixels:
            pixels = resize(pixels, (base.shape[1], base.shape[0]))
        view = fit(pixels, request.size_rule)
        found = [view.in_photo(face) for face in self.find_faces(view.image) if view.shows(face)]
        chosen = found[: request.max_faces]
        image, restored = self._restorer.restore(pixels, base, chosen, request.alpha, progress)
        said = (view.note, counted(len(found), self._finder), _note(len(found), len(chosen), len(restored)))
        return Outcome(image, tuple(restored), " ".join(filter(None, said)))

    def _enlarged(self, photo: Pixels, progress: Progress | None = None) -> Pixels:
        """The photo enlarged, or itself where that is not asked for."""
        if not self.options.sr:
            return photo
        if self._enlarger is None:
            raise RequestError(NO_ENLARGER)
        return enlarged(photo, self._enlarger, self.options.max_pixels, progress)


def _note(found: int, chosen: int, restored: int) -> str:
    if found == 0:
        return "No face was found, so none was restored."
    more = f"Of {found} faces only the {chosen} of the best score were restored: `max_faces` says how many."
    notes = [more] if chosen < found else []
    if restored < chosen:
        notes.append(f"{chosen - restored} of {chosen} faces stayed as they are: their five points tell no place.")
    return " ".join(notes)


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> GpenFlow:
    """The flow over the networks of a bundle; `assets` are not needed.

    Without retinaface-r50, OpenCV's cascades find the faces; without parsenet, the mask is a rectangle; `notes` says
    so.

    Raises:
        BundleError: the generator is missing.
        RequestError: the option `sr` asks for the enlarger, and it is missing.
    """
    generator = check(sessions, options, Request())
    notes: list[str] = []
    finder = _finder(sessions, notes)
    return GpenFlow(
        FaceRestorer(sessions[generator], int(generator.removeprefix(GENERATOR)), _parser(sessions, notes)),
        finder,
        enlarger_of(sessions, options.tile),
        options,
        notes,
    )


def check(networks: Collection[str], options: Options, _: Request) -> str:
    """The name of the generator.

    Raises:
        BundleError: the generator is missing.
        RequestError: the option `sr` asks for the enlarger, and it is missing.
    """
    generator = only(networks, GENERATOR)
    if generator is None:
        raise BundleError(f"The bundle has no network {GENERATOR}SIZE, expected one: build it again.")
    if options.sr and only(networks, ENLARGER) is None:
        raise RequestError(NO_ENLARGER)
    return generator


def _finder(sessions: Mapping[str, Session], notes: list[str]) -> Finder:
    if FINDER in sessions:
        return RetinaFaceFinder(sessions[FINDER])
    notes.append(f"The bundle lacks {FINDER}: OpenCV's Haar cascades stand in and find frontal faces only.")
    return CascadeFinder()


def _parser(sessions: Mapping[str, Session], notes: list[str]) -> Session | None:
    if PARSER not in sessions:
        notes.append(f"The bundle lacks {PARSER}: faces are put back by a rectangle with a soft rim.")
    return sessions.get(PARSER)
