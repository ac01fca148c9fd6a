"""A model's whole flow behind the seam of a network, for `validate.worker`: on a bundle's engines, or on the originals.

The flow's code is one and the same; what differs is what its networks run on. Feeds and answers:

    photo   uint8 (1, H, W, 3) RGB        result uint8 (1, H', W', 3) RGB, points float64 (F, 5, 2) of its faces in it
            (or by the names that the flow takes)
            and, with `record`, every stage   (`validate.recording.to_arrays`)
    find    uint8 (1, H, W, 3) RGB        points float64 (F, 5, 2) of the faces that the flow's own finder sees in it,
                                          finder: its name, or "" where the flow has none
    recognise  uint8 (1, H, W, 3) RGB     embeddings float32 (F, D) of the faces at `points` (F, 5, 2), where the flow
                                          has a recogniser
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cameo.bundle import Bundle
from cameo.faces.face import Face
from cameo.flows import Flow, flow_module, recogniser_of
from cameo.loading import told_apart
from cameo.noise import with_noise
from cameo.opening import LoadOptions, open_sessions
from cameo.pixels import Pixels
from cameo.runtime import Runtime
from cameo.session import Session, Tensor
from validate.recording import FACES, MADE, Recorder, points_of, to_arrays

FIND, RECOGNISE, POINTS, RECORD = "find", "recognise", "points", "record"


class FlowSession(Session):
    """Runs photos of a flow's names as `request` says; `recorder` hears its networks; `close` frees them."""

    def __init__(self, flow: Flow, request: Any, recorder: Recorder, close: Callable[[], None]) -> None:
        self._flow = flow
        self._request = request
        self._recorder = recorder
        self._close = close

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the flow makes of its photos, or the faces in `find`, or whose they are, as above."""
        if FIND in feeds:
            return {
                "points": points_of(self._flow.find_faces(_photo(feeds[FIND]))),
                "finder": np.array(self._flow.finder),
            }
        if RECOGNISE in feeds:
            return self._recognised(_photo(feeds[RECOGNISE]), feeds[POINTS])
        photos = {name: _photo(feed) for name, feed in feeds.items() if name != RECORD}
        if RECORD in feeds:
            found = [points_of(self._flow.find_faces(photo)) for photo in photos.values()]
            self._recorder.start()
            self._recorder.keep(FACES, MADE, {"points": np.concatenate(found)})
        try:
            made = self._flow.run(photos, self._request)
        finally:
            stages = self._recorder.stop()
        return {"result": made.image[None], "points": points_of(made.faces), **to_arrays(stages)}

    def close(self) -> None:
        self._close()

    def _recognised(self, photo: Pixels, points: Tensor) -> dict[str, Tensor]:
        recognise = recogniser_of(self._flow)
        if recognise is None:
            return {}
        found = [recognise(photo, _face_at(five)) for five in np.asarray(points, np.float64)]
        return {"embeddings": np.stack(found) if found else np.zeros((0, 1), np.float32)}


def _photo(feed: Tensor) -> Pixels:
    return np.asarray(feed[0], np.uint8)


def _face_at(points: Any) -> Face:
    """A face of which its five points are known."""
    return Face(np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32), 1.0, None, points)


def open_flow(spec: Mapping[str, Any]) -> FlowSession:
    """The flow of the bundle that `spec` names (`validate.remote.Spec`), on its originals if there are some.

    Raises:
        CameoError: whatever loading it raises.
    """
    bundle = Bundle(Path(spec["bundle"]))
    module = flow_module(bundle.manifest.flow)
    options, request = told_apart(module, spec["declaring"], bundle.networks)
    assets = {name: bundle.verified(file) for name, file in bundle.manifest.assets.items()}
    recorder = Recorder()
    with ExitStack() as opening:
        sessions = recorder.watched(_sessions(spec, bundle, opening))
        flow = module.open_flow(sessions, assets, options)
        return FlowSession(flow, request, recorder, opening.pop_all().close)


def _sessions(spec: Mapping[str, Any], bundle: Bundle, opening: ExitStack) -> Mapping[str, Session]:
    """The networks of the bundle on the engine that is meant, or on the originals."""
    if not spec["originals"]:
        settings = {name: spec[name] for name in ("engine", "precision", "mode", "device", "threads")}
        runtime = Runtime()
        opening.callback(runtime.close)
        _, sessions = open_sessions(bundle, LoadOptions(**settings), opening, runtime)
        return {name: with_noise(session, bundle.networks[name].inputs) for name, session in sessions.items()}
    from exporters import open_original

    return {
        name: opening.enter_context(open_original(name, Path(spec["originals"][name]), spec["parts"].get(name, "")))
        for name in bundle.networks
    }
