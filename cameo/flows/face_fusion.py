"""Face fusion: a face of `template` takes on the identity and, by half, the shape of the face of `face`.

    both photos -> faces, the largest of each -> crops of 256 px -> fused crop (`cameo/faces/fusing.py`)
    fused crop -> where the alpha mask shows it -> template -> enhanced by GPEN around the face
    (`cameo/faces/enhancing.py`) -> template's own size, and bits, everywhere else

The numbers are those of the original (`ImageFaceFusion.inference`) unless an option says otherwise. Of its quirks,
reproduced are:

    * networks see black beyond a photo's border, other than in our other flows (docs/decisions/147; `mirror_borders`);
    * the enhancer's mask is nowhere 0, so a faint square (1 to 10 % of what GPEN changes) ends at its crop's rim;
    * GPEN's levels are cut off, not rounded; a pupil is found by five of an eye's six points (`cameo/faces/pupils.py`);
    * channels of a coloured alpha mask are exchanged.

Knowingly different are:

    * the result is RGB; the original gives BGR, but RGB where it found no face;
    * a photo without a face is an error that names it; the original hands back the template (`allow_no_face`);
    * the fused crop and the enhancer's input are rounded to whole levels, the type of all networks' edges; the original
      keeps floats. The photo is at most 0.5 levels off before it is enhanced;
    * faces are never mirrored to fit (`cameo/faces/alignment.py`);
    * a template without colour stays without (`cameo/colour.py`);
    * outside the rectangle of the enhancer's crop, or the alpha mask, the template keeps its bits, and memory holds
      floats of that rectangle only. The original warps masks and faces to the size of the photo.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from cameo.colour import as_colourless_as
from cameo.declaring import Declared, option
from cameo.errors import BundleError, PhotoError, RequestError
from cameo.faces.alpha import alpha_of
from cameo.faces.blending import NO_PARSER, PARSER, Blend, FaceBlender
from cameo.faces.choosing import largest_first, most_similar, numbered
from cameo.faces.counting import counted
from cameo.faces.enhancing import FaceEnhancer
from cameo.faces.face import Face, Finder, Matrix
from cameo.faces.finders.dctnet import finder_of
from cameo.faces.fusing import CROP_SIZE, FaceFuser, Fusion, Numbers, Source
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.images import Photo, read_photo
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.size_rule import Fitted, fit, size_rule_option

TAKES: Final = ("template", "face")
MEANINGS: Final = {"template": "the picture that is changed", "face": "a photo of whose face goes into it"}
DIGITAL_SOURCE_TYPE: Final = "compositeWithTrainedAlgorithmicMedia"
CONSENT: Final = (
    "Face fusion puts a real person's face into another picture, which deceives and harms whom it shows if they have "
    "not agreed."
)
GENERATOR, RECOGNISER, SHAPES = "fusion-generator", "curricularface", "face-recon-3d"
ENHANCER = "gpen-bfr-1024"


@dataclass(frozen=True)
class Options(FlowOptions):
    """Nothing but what every flow has."""

    OF: ClassVar[str] = "face-fusion"


@dataclass(frozen=True)
class Request(Declared):
    """Which faces, and what of the result is wanted; by default what the original does."""

    OF: ClassVar[str] = "face-fusion"

    template_face: int | None = option(None, "which face of the template, 1 is the largest", least=1)
    face_face: int | None = option(None, "which face of the photo that the face comes from, 1 is the largest", least=1)
    template_reference: Photo | None = option(None, "a picture of whom to look for in the template")
    face_reference: Photo | None = option(None, "a picture of whom to look for in the photo that the face comes from")
    all: bool = option(False, "every face of the template")
    strength: float = option(1.0, "share of the fused face; 0 is the template", least=0, most=1)
    keep_occluders: bool = option(
        False, "keep hair, hats, glasses and what else ParseNet sees over the face", needs=PARSER
    )
    match_color: bool = option(False, "give the fused face the mean and variance of the template's colours")
    no_enhance: bool = option(False, "leave out the enhancer", needs=ENHANCER)
    allow_no_face: bool = option(False, "without a face, give the template as it is instead of an error")
    mirror_borders: bool = option(False, "show networks the photo mirrored beyond its border, not black")
    size_rule: str = size_rule_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        for photo, number, reference in (
            ("template", self.template_face, self.template_reference),
            ("face", self.face_face, self.face_reference),
        ):
            if number is not None and reference is not None:
                raise RequestError(f"Both `{photo}_face` and `{photo}_reference` choose a face, expected one of them.")
        if self.all and (self.template_face is not None or self.template_reference is not None):
            raise RequestError("The option `all` takes every face of the template, expected no other choice beside it.")

    @property
    def blend(self) -> Blend:
        """How a fused face goes into the template."""
        return Blend(self.strength, not self.no_enhance, self.match_color, self.keep_occluders, self.mirror_borders)

    @property
    def border(self) -> int:
        """How OpenCV goes on where a photo ends."""
        return self.blend.border


@dataclass(frozen=True, eq=False)
class Stages:
    """What was found and made before anything is pasted, for comparing an engine with its original step by step.

    `fusions` are the template's faces in its own pixels, largest first; `notes` are sentences.
    """

    source: Source
    fusions: tuple[Fusion, ...]
    notes: tuple[str, ...]


class _NoFaceError(PhotoError):
    """The photo of that name has none."""

    def __init__(self, photo: str) -> None:
        super().__init__(
            f"No face was found in the photo '{photo}', expected one: choose a photo that shows it larger and from the "
            "front, or `allow_no_face` to get the template as it is."
        )
        self.photo = photo


class FaceFusionFlow:
    """Fuses faces with `fuser`, and puts them into their template with `blender`; `finder` says where they are.

    `notes` say, a sentence each, what stands in for a missing part.
    """

    def __init__(
        self,
        fuser: FaceFuser,
        blender: FaceBlender,
        finder: Finder,
        options: Options | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.fuser = fuser
        self.blender = blender
        self._finder = finder
        self.options = options or Options()
        self.notes = list(notes)
        self.finder = finder.title

    def run(self, photos: Mapping[str, Pixels], request: Request, progress: Progress | None = None) -> Outcome:
        """The template, of its own size, with its face fused; `progress(done, faces)`.

        Raises:
            PhotoError: a photo has no face, or one whose points tell no place.
            RequestError: the request asks for a face that is not there, or for a network that is not.
        """
        self.blender.check(request.blend)
        template = photos["template"]
        try:
            stages = self.stages(photos, request)
        except _NoFaceError as error:
            if not request.allow_no_face:
                raise
            note = f"No face was found in the photo '{error.photo}': the template is as it was."
            return Outcome(template.copy(), note=note)
        image = template.copy()
        for done, fusion in enumerate(stages.fusions, 1):
            self.blender.put(image, template, fusion, request.blend)
            if progress is not None:
                progress(done, len(stages.fusions))
        faces = tuple(fusion.face for fusion in stages.fusions)
        return Outcome(as_colourless_as(template, image), faces, " ".join(stages.notes))

    def find_faces(self, photo: Pixels) -> list[Face]:
        """The faces of a photo, largest first: the order in which they are numbered."""
        return largest_first(self._finder(photo))

    def recognise(self, photo: Pixels, face: Face) -> Numbers:
        """The identity of a face of a photo, float32 `(512,)` of length 1, as it is taken from the photo `face`.

        Raises:
            PhotoError: the face's five points coincide.
        """
        return self.fuser.identities([self.fuser.cut(photo, face, Request().border)[1]])[0]

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        return f"Face fusion at {CROP_SIZE} px{self.blender.describe()}, faces by {self.finder}"

    def stages(self, photos: Mapping[str, Pixels], request: Request) -> Stages:
        """Every step up to the fused crops."""
        notes: list[str] = []
        views = {name: fit(photos[name], request.size_rule) for name in TAKES}
        notes += [one.note.replace("the photo", f"the photo '{name}'") for name, one in views.items() if one.note]
        face = self._choose("face", views["face"], request, notes)
        view = views["template"]
        chosen = self._all(view, notes) if request.all else [self._choose("template", view, request, notes)]
        source = self.fuser.source(face, self.fuser.cut(views["face"].image, face, request.border)[1])
        places = self._places(view, chosen, request.border, notes)
        fusions = tuple(_in_photo(view, fusion) for fusion in self.fuser.fuse(places, source))
        return Stages(source, fusions, tuple(notes))

    def _all(self, view: Fitted, notes: list[str]) -> list[Face]:
        faces = self._faces_of("template", view)
        notes += filter(None, [counted(len(faces), self._finder)])
        return faces

    def _faces_of(self, name: str, view: Fitted) -> list[Face]:
        faces = [face for face in self.find_faces(view.image) if view.shows(face)]
        if not faces:
            raise _NoFaceError(name)
        return faces

    def _choose(self, name: str, view: Fitted, request: Request, notes: list[str]) -> Face:
        """The face of one photo that is meant, in pixels of the view."""
        faces = self._faces_of(name, view)
        number, reference = getattr(request, f"{name}_face"), getattr(request, f"{name}_reference")
        if number is not None:
            return numbered(faces, number, name)
        if reference is not None:
            known = self._known(f"{name}_reference", reference, request)
            places = self._places(view, faces, request.border, notes)
            index, cosine = most_similar(self.fuser.identities([known, *(crop for _, _, crop in places)]))
            face = places[index][0]
            which = f"face {faces.index(face) + 1} of {len(faces)}"
            notes.append(f"Of the photo '{name}', {which} was taken: its cosine to the reference is {cosine:.2f}.")
            return face
        if len(faces) > 1:
            others = f"`{name}_face` and `{name}_reference` choose another"
            notes.append(f"The photo '{name}' has {len(faces)} faces: the largest was taken; {others}.")
        return faces[0]

    def _known(self, name: str, reference: Photo, request: Request) -> Pixels:
        """The crop of the largest face of a reference."""
        photo = read_photo(reference, self.options.max_pixels)
        view = fit(photo, request.size_rule)
        return self.fuser.cut(view.image, self._faces_of(name, view)[0], request.border)[1]

    def _places(
        self, view: Fitted, faces: Sequence[Face], border: int, notes: list[str]
    ) -> list[tuple[Face, Matrix, Pixels]]:
        """Faces with the matrix and crop of each; those whose points tell no place are left out, if others are left."""
        places, refused = [], []
        for face in faces:
            try:
                places.append((face, *self.fuser.cut(view.image, face, border)))
            except PhotoError as error:
                refused.append(error)
        if not places:
            raise refused[0]
        if lost := len(faces) - len(places):
            notes.append(f"{lost} of {len(faces)} faces were left out: their five points tell no place.")
        return places


def _in_photo(view: Fitted, fusion: Fusion) -> Fusion:
    """The same with face and matrix in pixels of the photo."""
    from_photo = view.from_photo
    turn = fusion.to_crop[:, :2]
    to_crop = np.column_stack([turn @ from_photo[:, :2], turn @ from_photo[:, 2] + fusion.to_crop[:, 2]])
    return replace(fusion, face=view.in_photo(fusion.face), to_crop=to_crop)


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> FaceFusionFlow:
    """The flow over the networks and assets of a bundle.

    Without the detector and landmarks networks, OpenCV's cascades find the faces; without gpen-bfr-1024, faces are as
    fused; without the asset `alpha`, the mask is an ellipse; `notes` says so.

    Raises:
        BundleError: a network is missing.
        PhotoError: the alpha mask cannot be read.
    """
    check(sessions, options, Request())
    notes: list[str] = []
    finder = finder_of(sessions, notes)
    alpha = alpha_of(assets, notes)
    enhancer = FaceEnhancer(sessions[ENHANCER], int(ENHANCER.rpartition("-")[2])) if ENHANCER in sessions else None
    if enhancer is None:
        notes.append(f"The bundle lacks {ENHANCER}: faces are as fused, with the detail of a crop of {CROP_SIZE} px.")
    fuser = FaceFuser(sessions[GENERATOR], sessions[RECOGNISER], sessions[SHAPES], alpha)
    blender = FaceBlender(fuser, enhancer, sessions.get(PARSER))
    return FaceFusionFlow(fuser, blender, finder, options, notes)


def check(networks: Collection[str], _: Options, request: Request) -> None:
    """Look whether the networks are there.

    Raises:
        BundleError: one that is always needed is missing.
        RequestError: the option `keep_occluders` asks for ParseNet, and it is missing.
    """
    missing = [name for name in (GENERATOR, RECOGNISER, SHAPES) if name not in networks]
    if missing:
        names = " and no ".join(missing)
        raise BundleError(f"The bundle has no network {names}, face-fusion needs three of its own: build it again.")
    if request.keep_occluders and PARSER not in networks:
        raise RequestError(NO_PARSER)
