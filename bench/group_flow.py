"""GPEN's whole flow on a photo whose faces are known, as a worker of `validate.remote`.

Random detector weights find no face. So the finder runs its network on the photo, as it would, and then says the faces
that came with the photo: the same for the original, which takes one face at a time, and for the engines.

Feeds: `image` uint8 (1, H, W, 3) RGB, `boxes` float32 (F, 4) and `points` float64 (F, 5, 2) of its faces.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cameo.faces.face import Face, Finder
from cameo.faces.finders.retinaface import RetinaFaceFinder
from cameo.faces.restoring import FaceRestorer
from cameo.flows.gpen import GENERATOR, GpenFlow, Request
from cameo.pixels import Pixels
from cameo.session import Session, Tensor


class KnownFaces:
    """Lets `finder` work, and returns `faces`."""

    title = "RetinaFace, its answer replaced by the known faces"
    most = RetinaFaceFinder.most

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self.faces: list[Face] = []

    def __call__(self, image: Pixels) -> list[Face]:
        self._finder(image)
        return self.faces


class GroupSession(Session):
    """The flow of GPEN over `sessions`, which finds the faces that it is told, behind the seam of a network."""

    def __init__(self, sessions: Mapping[str, Session], close: Callable[[], None]) -> None:
        self._close = close
        self._known = KnownFaces(RetinaFaceFinder(sessions["retinaface-r50"]))
        generator = next(name for name in sessions if name.startswith(GENERATOR))
        size = int(generator.removeprefix(GENERATOR))
        self._flow = GpenFlow(FaceRestorer(sessions[generator], size, sessions["parsenet"]), self._known)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `result`, uint8 `(1, H, W, 3)` RGB."""
        known = zip(feeds["boxes"], feeds["points"], strict=True)
        self._known.faces = [Face(box, 1.0, None, points) for box, points in known]
        restored = self._flow.run({"photo": np.asarray(feeds["image"][0], np.uint8)}, Request())
        if len(restored.faces) != len(self._known.faces):
            raise RuntimeError(f"{len(restored.faces)} of {len(self._known.faces)} faces were restored")
        return {"result": restored.image[None]}

    def close(self) -> None:
        self._close()


def open_session(spec: Mapping[str, Any]) -> Session:
    """The flow of the bundle, or on the checkpoints in `originals`, where there are some."""
    with ExitStack() as opening:
        if spec["originals"]:
            from exporters import open_original

            weights = spec["originals"].items()
            sessions = {
                name: OneByOne(opening.enter_context(open_original(name, Path(path)))) for name, path in weights
            }
        else:
            from cameo.bundle import Bundle
            from cameo.opening import LoadOptions, open_sessions
            from cameo.runtime import Runtime

            options, runtime = LoadOptions(spec["engine"], spec["precision"]), Runtime()
            opening.callback(runtime.close)
            _, sessions = open_sessions(Bundle(spec["bundle"]), options, opening, runtime)
        return GroupSession(sessions, opening.pop_all().close)


class OneByOne(Session):
    """An original, which takes one face at a time, as its authors run it."""

    batches = (1,)

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the original gives."""
        return self._session.run(feeds)

    def close(self) -> None:
        self._session.close()


if __name__ == "__main__":
    from validate.worker import main

    sys.exit(main(sys.argv[1], open_session))
