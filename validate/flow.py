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
from cameo.errors import EngineError
from cameo.flows import flow_module
from cameo.pixels import Pixels
from cameo.session import Tensor
from metrics import landmarks, memory, timing
from metrics.landmarks import nearest
from metrics.measurement import Measurement, find
from metrics.timing import Rounds
from validate import fidelity
from validate.contenders import Contender, Starting
from validate.faces import ComparedFace, Result, compare_faces
from validate.network import ValidationOptions
from validate.pictures import Comparison, FacePair, compare_pictures, face_pair
from validate.remote import RemoteSession, Spec
from validate.results import FaceResult, FlowEngineResult, FlowResult, Subject

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


class FlowComparison:
    """Measures the flow of a bundle; use `run` once."""

    def __init__(self, bundle: Bundle, weights: Mapping[str, Path], options: ValidationOptions) -> None:
        self._bundle = bundle
        self._weights = weights
        self._options = options
        entries = {e.subject: e for network in bundle.networks.values() for e in network.engines}
        self._contenders = [
            FlowContender(e.engine, e.precision, e.mode, f"{NAME}/{subject}") for subject, e in entries.items()
        ]
        self.pictures: list[Comparison] = []
        self.faces: list[FacePair] = []

    def run(self, photos: Mapping[str, NDArray[np.uint8]], scratch: Path) -> FlowResult:
        """Everything measured of the flow on `photos` (uint8 `(H, W, 3)` RGB); `pictures` and `faces` are filled too.

        Raises:
            CheckpointError: weights that are not their network's.
            EngineError: a process crashed, or a result has another size than the original's.
        """
        with ExitStack() as stack:
            spec = Spec(f"{NAME}/original", NAME, bundle=str(self._bundle.folder.resolve()), flow=True)
            originals = {name: str(self._weights[name].resolve()) for name in self._bundle.networks}
            options = self._options
            spec = replace(spec, originals=originals, parts=options.parts, flow_options=options.flow_options)
            starting = Starting(scratch, _PATIENCE * self._options.timeout_s)
            original = starting.start(stack, spec, self._contenders, self._spec)
            running = [contender for contender in self._contenders if contender.session is not None]
            times: list[tuple[float, ...]] = []
            takes = flow_module(self._bundle.manifest.flow).TAKES
            for name, pixels in feeds_of(takes, photos).items():
                feeds = _save(scratch, "photos", pixels)
                finder = self._compare(original, running, name, feeds)
                if not times:  # now that the first photo has warmed all of them up
                    sessions = [original, *(contender.running for contender in running)]
                    runs = [session.timed(feeds) for session in sessions]
                    times = timing.interleaved(runs, self._rounds(), warm_up_runs=0)
            for contender, found in zip(running, times[1:], strict=True):
                contender.latencies_ms, contender.memory = found, contender.running.memory()
            taken = original.memory()
        self._keep_pictures(running)
        name = original.spec.subject
        measured = (*timing.measurements(name, times[0], times[0])[:-1], *memory.measurements(name, taken))
        first = next(iter(photos.values()))
        return FlowResult(
            finder,
            (first.shape[0], first.shape[1]),
            dict(self._options.flow_options),
            Subject(name, measured, times[0]),
            tuple(_result(contender, times[0], find(measured, "peak_rss")) for contender in self._contenders),
        )

    def _spec(self, contender: Contender) -> Spec:
        bundle, threads = str(self._bundle.folder.resolve()), self._options.threads
        engine = contender.engine, contender.precision, contender.mode
        spec = Spec(contender.subject, NAME, "", bundle, *engine, threads=threads, flow=True)
        return replace(spec, flow_options=self._options.flow_options)

    def _rounds(self) -> Rounds:
        """Fewer than for networks: a photo of a few faces takes the original half a minute."""
        rounds = self._options.rounds
        return replace(rounds, least=1, most=min(rounds.most, _MOST_ROUNDS), seconds=_PATIENCE * rounds.seconds)

    def _compare(self, original: RemoteSession, running: Iterable[FlowContender], photo: str, feeds: Path) -> str:
        """Compare one photo's results; return what finds faces in them."""
        expected = original.run(feeds)
        outputs = [(contender, contender.running.run(feeds)) for contender in running]
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
            faces = compare_faces(contender.subject, np.asarray(expected["points"], np.float64), theirs, ours)
            contender.faces += [(photo, face) for face in faces]
            if sight["finder"]:
                lost = sum(math.isinf(face.shift_px) for face in faces)
                lost += sum(
                    nearest(points, np.asarray(output["points"], np.float64)) is None for points in expected["points"]
                )
                contender.lost = (contender.lost or 0) + lost
            if contender.picture is None:
                pair = theirs.image, ours.image
                contender.picture = compare_pictures(contender.subject, photo, *pair, _LONGEST_PICTURE)
        return str(sight["finder"])

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
        measured += timing.measurements(subject, contender.latencies_ms, original_ms)
        measured += memory.measurements(subject, contender.memory, original_rss)
    faces = tuple(
        FaceResult(
            photo, face.eye_distance_px, {m.metric: m.value for m in face.measurements}, face.shift_px, face.shift_share
        )
        for photo, face in contender.faces
    )
    told = Subject(subject, tuple(measured), contender.latencies_ms, contender.why_not_run)
    return FlowEngineResult(contender.engine, contender.precision, told, faces, contender.mode)


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


def _look(finder: RemoteSession, feeds: Path, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the original's finder sees in a result."""
    return finder.run(_save(feeds.parent, "find", {"find": made["result"][0].astype(np.uint8)}))


def _as_result(made: Mapping[str, Tensor], sight: Mapping[str, Tensor]) -> Result:
    return Result(made["result"][0].astype(np.uint8), np.asarray(sight["points"], np.float64))


def feeds_of(takes: Sequence[str], photos: Mapping[str, Pixels]) -> dict[str, dict[str, Pixels]]:
    """What the flow is run on, by its first photo's name: each photo, with the next ones where it takes several."""
    names = list(photos)
    return {
        name: {taken: photos[names[(index + offset) % len(names)]] for offset, taken in enumerate(takes)}
        for index, name in enumerate(names)
    }


def _save(scratch: Path, name: str, pictures: Mapping[str, Pixels]) -> Path:
    """Pictures as the feeds of a network, in a file."""
    path = scratch / f"{name}.npz"
    np.savez(path, **dict[str, Any]({taken: picture[None] for taken, picture in pictures.items()}))
    return path
