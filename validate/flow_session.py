"""A model's whole flow behind the seam of a network, for `validate.worker`: on a bundle's engines, or on the originals.

The flow's code is one and the same; what differs is what its networks run on. Feeds and answers:

    image   uint8 (1, H, W, 3) RGB        result uint8 (1, H', W', 3) RGB, points float64 (F, 5, 2) of its faces in it
    find    uint8 (1, H, W, 3) RGB        points float64 (F, 5, 2) of the faces that the flow's own finder sees in it,
                                          finder: its name, or "" where the flow has none
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cameo.session import Session, Tensor


class FlowSession(Session):
    """Runs `flow`, an object with `run(photo)` and perhaps `find_faces(photo)`; `close` frees its networks."""

    def __init__(self, flow: Any, close: Callable[[], None]) -> None:
        self._flow = flow
        self._close = close

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the flow makes of `image`, or the faces in `find`, as above."""
        if "find" in feeds:
            finder = getattr(self._flow, "find_faces", None)
            found = finder(feeds["find"][0]) if finder else ()
            return {"points": _points(found), "finder": np.array(getattr(finder, "title", ""))}
        made = self._flow.run(feeds["image"][0])
        return {"result": made.image[None], "points": _points(made.faces)}

    def close(self) -> None:
        self._close()


def _points(faces: Any) -> Tensor:
    """The five points of each face, float64 `(F, 5, 2)`."""
    return np.array([face.five_points for face in faces], np.float64).reshape(-1, 5, 2)


def open_flow(spec: Mapping[str, Any]) -> FlowSession:
    """The flow of the bundle that `spec` names (`validate.remote.Spec`), on its originals if there are some.

    Raises:
        CameoError: whatever loading it raises.
    """
    if not spec["originals"]:
        from cameo.loading import load

        settings = {name: spec[name] for name in ("engine", "precision", "mode", "device", "threads")}
        loaded = load(spec["bundle"], **settings, **spec["flow_options"])
        return FlowSession(loaded.flow, loaded.close)
    return _on_originals(Path(spec["bundle"]), spec["originals"], spec["flow_options"])


def _on_originals(folder: Path, weights: Mapping[str, str], options: Mapping[str, Any]) -> FlowSession:
    from cameo.bundle import Bundle
    from cameo.loading import flow_module
    from validate.originals import open_original

    bundle = Bundle(folder)
    assets = {name: bundle.verified(file) for name, file in bundle.manifest.assets.items()}
    with ExitStack() as opening:
        sessions = {name: opening.enter_context(open_original(name, Path(weights[name]))) for name in bundle.networks}
        opened = flow_module(bundle).open_flow(sessions, assets, options)
        return FlowSession(opened, opening.pop_all().close)
