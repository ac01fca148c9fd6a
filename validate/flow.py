"""The whole flow, photo in and photo out: on the originals, and on every engine that can run here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cameo.bundle import Bundle
from cameo.counting import count_of
from cameo.errors import EngineError, PhotoError
from cameo.flows import flow_module
from cameo.pixels import Pixels
from cameo.session import Tensor
from metrics import identity, landmarks, memory, timing
from metrics.landmarks import nearest
from metrics.measurement import Measurement, find
from metrics.timing import Rounds
from validate import fidelity
from validate.contenders import Contender, Starting
from validate.faces import ComparedFace, Result, compare_faces
from validate.flow_session import FIND, POINTS, RECOGNISE, RECORD
from validate.network import Tell, ValidationOptions, untold
from validate.pictures import Comparison, FacePair, compare_pictures, face_pair
from validate.recording import MADE, Stage, from_arrays
from validate.remote import RemoteSession, Spec
from validate.results import FaceResult, FlowEngineResult, FlowResult, SkippedPhoto, StageResult, Subject
from validate.stages import compare_stages

NAME = "flow"
"""What gates call it, where they name a network."""

FACE = "/face"
"""Ends the metrics of the worst face, as against those of the worst photo."""

_MOST_ROUNDS = 10
_PATIENCE = 4  # times the time that a network gets: a flow runs several, for every face
_LONGEST_PICTURE = 1200
_FACES_SHOWN = 6


@dataclass
class FlowContender(Contender):
    """The flow on one engine, and what was found of it."""

    measurements: list[Measurement] = field(default_factory=list)
    faces: list[tuple[str, ComparedFace]] = field(default_factory=list)
    lost: int | None = None
    picture: Comparison | None = None
    likenesses: list[Measurement] = field(default_factory=list)
    stages: tuple[StageResult, ...] = ()


class FlowComparison:
    """Measures the flow of a bundle; use `run` once."""

    def __init__(
        self, bundle: Bundle, weights: Mapping[str, Path], options: ValidationOptions, tell: Tell = untold
    ) -> None:
        self._tell = tell
        self._bundle = bundle
        self._weights = weights
        self._options = options
        entries = {e.subject: e for network in bundle.networks.values() for e in network.engines}
        self._contenders = [
            FlowContender(e.engine, e.precision, e.mode, f"{NAME}/{subject}") for subject, e in entries.items()
        ]
        self.pictures: list[Comparison] = []
        self.faces: list[FacePair] = []
        self.skipped: list[SkippedPhoto] = []
        self._likenesses: list[Measurement] = []

    def run(self, photos: Mapping[str, NDArray[np.uint8]], scratch: Path) -> FlowResult:
        """Everything measured of the flow on `photos` (uint8 `(H, W, 3)` RGB); `pictures` and `faces` are filled too.

        Photos of which the original makes nothing are left out, and listed in `skipped`. Of an engine that makes
        nothing of photos of which the original does, the faces are lost; on the first ones, it is not timed then.

        Raises:
            CheckpointError: weights that are not their network's.
            EngineError: a process crashed, or a result has another size than the original's.
            PhotoError: the original makes nothing of any of the photos.
        """
        with ExitStack() as stack:
            spec = Spec(f"{NAME}/original", NAME, bundle=str(self._bundle.folder.resolve()), flow=True)
            originals = {name: str(self._weights[name].resolve()) for name in self._bundle.networks}
            options = self._options
            spec = replace(spec, originals=originals, parts=options.parts, declaring=options.declaring)
            starting = Starting(scratch, _PATIENCE * self._options.timeout_s)
            original = starting.start(stack, spec, self._contenders, self._spec)
            running = [contender for contender in self._contenders if contender.session is not None]
            times: list[tuple[float, ...]] = []
            chosen = self._pairs(original, photos, scratch)
            first: dict[str, str] = {}
            timed: list[FlowContender] = []
            for done, (name, taken) in enumerate(chosen.items()):
                self._tell(f"the whole {NAME}", done, len(chosen))
                pixels = {place: photos[photo] for place, photo in taken.items()}
                feeds = _save(scratch, "photos", pixels)
                try:
                    expected = original.run(feeds)
                except PhotoError as error:
                    together = f"{' and '.join(_names(taken))}: " if len(taken) > 1 else ""
                    self.skipped.append(SkippedPhoto(Path(name).name, f"{together}{error}"))
                    continue
                outputs = [(one, made) for one in running if (made := _made(one, feeds, expected)) is not None]
                finder = self._compare(original, outputs, name, feeds, expected, pixels)
                if not times:  # now that the first photo has warmed all of them up
                    first = dict(taken)
                    timed = [contender for contender, _ in outputs]
                    runs = [session.timed(feeds) for session in (original, *(one.running for one in timed))]
                    times = timing.interleaved(runs, self._rounds(), warm_up_runs=0)
            if not times:
                said = f"the flow makes nothing of any of {count_of(len(chosen), 'photo')}"
                raise PhotoError(f"{said}: {self.skipped[0].why}")
            for contender, found in zip(timed, times[1:], strict=True):
                contender.latencies_ms = found
            for contender in running:
                contender.memory = contender.running.memory()
            measured_memory = original.memory()
            # Recording holds what networks gave, which nobody else would: it comes after memory is taken
            self._compare_stages(original, timed, {place: photos[photo] for place, photo in first.items()}, scratch)
        self._keep_pictures(running)
        name = original.spec.subject
        measured = (*timing.measurements(name, times[0], times[0])[:-1], *memory.measurements(name, measured_memory))
        height, width = photos[next(iter(first.values()))].shape[:2]
        return FlowResult(
            finder,
            (height, width),
            dict(self._options.declaring),
            Subject(name, (*fidelity.worst(self._likenesses), *measured), times[0]),
            tuple(_result(contender, times[0], find(measured, "peak_rss")) for contender in self._contenders),
            dict(zip(first, _names(first), strict=True)),
        )

    def _pairs(self, original: RemoteSession, photos: Mapping[str, Pixels], scratch: Path) -> dict[str, dict[str, str]]:
        """What the flow is run on; where it takes several photos, those with a face are asked to go with others."""
        takes = flow_module(self._bundle.manifest.flow).TAKES
        if len(takes) == 1:
            return pairs_of(takes, list(photos))
        seen = {name: original.run(_save(scratch, FIND, {FIND: photo})) for name, photo in photos.items()}
        return pairs_of(takes, list(photos), [name for name, sight in seen.items() if len(sight[POINTS])])

    def _spec(self, contender: Contender) -> Spec:
        bundle, threads = str(self._bundle.folder.resolve()), self._options.threads
        engine = contender.engine, contender.precision, contender.mode
        spec = Spec(contender.subject, NAME, "", bundle, *engine, threads=threads, flow=True)
        return replace(spec, declaring=self._options.declaring)

    def _rounds(self) -> Rounds:
        """Fewer than for networks: a photo of a few faces takes the original half a minute."""
        rounds = self._options.rounds
        return replace(rounds, least=1, most=min(rounds.most, _MOST_ROUNDS), seconds=_PATIENCE * rounds.seconds)

    def _compare(
        self,
        original: RemoteSession,
        outputs: Sequence[tuple[FlowContender, Mapping[str, Tensor]]],
        photo: str,
        feeds: Path,
        expected: Mapping[str, Tensor],
        pixels: Mapping[str, Pixels],
    ) -> str:
        """Compare one photo's results with those `expected`; return what finds faces in them."""
        sight = _look(original, feeds, expected)
        theirs = _as_result(expected, sight)
        for contender, output in outputs:
            ours = _as_result(output, _look(original, feeds, output))
            if theirs.image.shape != ours.image.shape:
                raise EngineError(
                    f"{contender.subject} made a picture of {ours.image.shape} of {photo}, expected "
                    f"{theirs.image.shape} as the original's: build the bundle again"
                )
            contender.measurements += fidelity.of_pictures(contender.subject, theirs.image, ours.image)
            if sight["finder"]:  # else the photo is the face, and compared already
                faces = compare_faces(contender.subject, np.asarray(expected["points"], np.float64), theirs, ours)
                contender.faces += [(photo, face) for face in faces]
                lost = sum(math.isinf(face.shift_px) for face in faces)
                lost += sum(
                    nearest(points, np.asarray(output["points"], np.float64)) is None for points in expected["points"]
                )
                contender.lost = (contender.lost or 0) + lost
            if contender.picture is None:
                pair = theirs.image, ours.image
                contender.picture = compare_pictures(contender.subject, photo, *pair, _LONGEST_PICTURE)
        self._compare_likenesses(original, expected, outputs, pixels, feeds.parent)
        return str(sight["finder"])

    def _compare_likenesses(
        self,
        original: RemoteSession,
        expected: Mapping[str, Tensor],
        outputs: Sequence[tuple[FlowContender, Mapping[str, Tensor]]],
        pixels: Mapping[str, Pixels],
        scratch: Path,
    ) -> None:
        """How alike each face of the results is to those of the photos; one recogniser, the original's, sees all.

        A photo that is alone is the one that is changed: nobody else's face is in its result.
        """
        if len(pixels) == 1 or not len(expected[POINTS]):
            return

        def embedded(picture: Pixels, points: Tensor) -> list[Any] | None:
            found = original.run(_save(scratch, RECOGNISE, {RECOGNISE: picture}, {POINTS: points}))
            return list(found["embeddings"]) if "embeddings" in found else None

        known = {
            name: embedded(photo, original.run(_save(scratch, FIND, {FIND: photo}))[POINTS])
            for name, photo in pixels.items()
        }
        theirs = embedded(_picture(expected), expected[POINTS])
        if theirs is None:
            return
        for name, faces in known.items():
            wanted = [identity.likeness(face, np.asarray(faces)) for face in theirs]
            about = f"to-{name}"
            self._likenesses += [identity.IDENTITY.of(f"{NAME}/original", one, about) for one in wanted]
            for contender, output in outputs:
                ours = [
                    identity.likeness(face, np.asarray(faces))
                    for face in embedded(_picture(output), expected[POINTS]) or ()
                ]
                contender.likenesses += [identity.IDENTITY.of(contender.subject, one, about) for one in ours]
                contender.likenesses += [
                    identity.SHIFT.of(contender.subject, abs(one - other), about)
                    for one, other in zip(ours, wanted, strict=True)
                ]

    def _compare_stages(
        self,
        original: RemoteSession,
        running: Iterable[FlowContender],
        pixels: Mapping[str, Pixels],
        scratch: Path,
    ) -> None:
        """Run the first photos once more, and compare what networks were fed and gave."""
        feeds = _save(scratch, RECORD, pixels, {RECORD: np.array(True)})
        expected = _stages(original.run(feeds))
        for contender in running:
            contender.stages = compare_stages(expected, _stages(contender.running.run(feeds)))

    def _keep_pictures(self, running: Iterable[FlowContender]) -> None:
        """Of every engine the first photo, and the faces that differ most."""
        for contender in running:
            self.pictures += [contender.picture] if contender.picture else []
            worst = sorted(contender.faces, key=lambda face: _psnr(face[1]))[:_FACES_SHOWN]
            self.faces += [
                face_pair(contender.subject, photo, face.original, face.candidate, _psnr(face), face.shift_share)
                for photo, face in worst
            ]


def _result(contender: FlowContender, original_ms: tuple[float, ...], original_rss: float | None) -> FlowEngineResult:
    subject = contender.subject
    measured: list[Measurement] = []
    if contender.session is not None:
        measured += fidelity.worst(contender.measurements)
        measured += _of_faces(subject, [face for _, face in contender.faces], contender.lost)
        measured += fidelity.worst(contender.likenesses)
        if contender.latencies_ms:
            measured += timing.measurements(subject, contender.latencies_ms, original_ms)
        measured += memory.measurements(subject, contender.memory, original_rss)
    faces = tuple(
        FaceResult(
            photo, face.eye_distance_px, {m.metric: m.value for m in face.measurements}, face.shift_px, face.shift_share
        )
        for photo, face in contender.faces
    )
    told = Subject(subject, tuple(measured), contender.latencies_ms, contender.why_not_run)
    return FlowEngineResult(contender.engine, contender.precision, told, faces, contender.mode, contender.stages)


def _of_faces(subject: str, faces: Sequence[ComparedFace], lost: int | None) -> list[Measurement]:
    """Fidelity of the worst face, the farthest that a point moved, and how many are lost, as far as there are any.

    Lost are faces that the finder sees in the original's result alone, and those that only the original worked on.
    """
    worst = fidelity.worst(m for face in faces for m in face.measurements)
    found = [replace(m, metric=m.metric + FACE) for m in worst]
    seen = [face for face in faces if math.isfinite(face.shift_px)]
    if seen:
        found.append(landmarks.SHIFT.of(subject, max(face.shift_px for face in seen)))
        found.append(landmarks.SHIFT_SHARE.of(subject, max(face.shift_share for face in seen)))
    if lost is not None:
        found.append(landmarks.LOST.of(subject, float(lost)))
    return found


def _psnr(face: ComparedFace) -> float:
    return next(m.value for m in face.measurements if m.metric == "psnr")


def _made(contender: FlowContender, feeds: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """What an engine makes of photos; None where it finds no face of those that it needs: all are lost then."""
    try:
        return contender.running.run(feeds)
    except PhotoError:
        if not len(expected[POINTS]):
            raise
        contender.lost = (contender.lost or 0) + len(expected[POINTS])
        return None


def _look(finder: RemoteSession, feeds: Path, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the original's finder sees in a result."""
    return finder.run(_save(feeds.parent, FIND, {FIND: _picture(made)}))


def _as_result(made: Mapping[str, Tensor], sight: Mapping[str, Tensor]) -> Result:
    return Result(_picture(made), np.asarray(sight["points"], np.float64))


def _picture(made: Mapping[str, Tensor]) -> Pixels:
    return np.asarray(made["result"][0], np.uint8)


def _stages(made: Mapping[str, Tensor]) -> dict[Stage, list[Tensor]]:
    """The stages of a recorded run, the result the last of them."""
    return {**from_arrays(made), (NAME, MADE, "result"): [_picture(made)]}


def _names(taken: Mapping[str, str]) -> list[str]:
    """The photos' file names."""
    return [Path(photo).name for photo in taken.values()]


def pairs_of(takes: Sequence[str], photos: Sequence[str], faced: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Which photos the flow is run on, by its first photo's name: each, with the next ones where it takes several.

    The next ones are those that are known to have a face, if there are some: one that has none is the first of its own
    run alone, and keeps no other from being compared. The only one of its kind goes with itself.
    """
    found = {}
    for photo in photos:
        others = faced or photos
        start = others.index(photo) if photo in others else -1
        ring = [others[(start + offset) % len(others)] for offset in range(1, len(takes))]
        found[photo] = dict(zip(takes, (photo, *ring), strict=True))
    return found


def _save(scratch: Path, name: str, pictures: Mapping[str, Pixels], others: Mapping[str, Tensor] | None = None) -> Path:
    """Pictures as the feeds of a network, with what is no picture, in a file."""
    path = scratch / f"{name}.npz"
    batches = {taken: picture[None] for taken, picture in pictures.items()}
    np.savez(path, **dict[str, Any]({**batches, **(others or {})}))
    return path
