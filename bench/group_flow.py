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

from cameo.faces.face import Face, Image
from cameo.flows.gpen import GpenFlow, open_flow
from cameo.session import Session, Tensor


class KnownFaces:
    """Lets `finder` work, and returns `faces`."""

    title = "RetinaFace, its answer replaced by the known faces"

    def __init__(self, finder: Callable[[Image], list[Face]]) -> None:
        self._finder = finder
        self.faces: list[Face] = []

    def __call__(self, image: Image) -> list[Face]:
        self._finder(image)
        return self.faces


class GroupSession(Session):
    """The flow behind the seam of a network."""

    def __init__(self, flow: GpenFlow, close: Callable[[], None]) -> None:
        self._flow, self._close = flow, close
        self._known = KnownFaces(flow.find_faces)
        flow.find_faces = self._known

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `result`, uint8 `(1, H, W, 3)` RGB."""
        known = zip(feeds["boxes"], feeds["points"], strict=True)
        self._known.faces = [Face(box, 1.0, None, points) for box, points in known]
        restored = self._flow.run(feeds["image"][0])
        if len(restored.faces) != len(self._known.faces):
            raise RuntimeError(f"{len(restored.faces)} of {len(self._known.faces)} faces were restored")
        return {"result": restored.image[None]}

    def close(self) -> None:
        self._close()


def open_session(spec: Mapping[str, Any]) -> Session:
    """The flow of the bundle, or on the checkpoints in `originals`, where there are some."""
    if not spec["originals"]:
        from cameo.loading import load

        loaded = load(spec["bundle"], engine=spec["engine"], precision=spec["precision"])
        flow: Any = loaded.flow
        return GroupSession(flow, loaded.close)
    from exporters import open_original

    with ExitStack() as opening:
        weights = spec["originals"].items()
        sessions = {name: opening.enter_context(open_original(name, Path(path))) for name, path in weights}
        return GroupSession(open_flow(sessions, {}, {"face_batch": 1}), opening.pop_all().close)


if __name__ == "__main__":
    from validate.worker import main

    sys.exit(main(sys.argv[1], open_session))
