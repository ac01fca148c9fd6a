"""A model's whole flow behind the seam of a network, for `validate.worker`: on a bundle's engines, or on the originals.

The flow's code is one and the same; what differs is what its networks run on. Feeds and answers:

    photo   uint8 (1, H, W, 3) RGB        result uint8 (1, H', W', 3) RGB, points float64 (F, 5, 2) of its faces in it
            (or by the names that the flow takes)
    find    uint8 (1, H, W, 3) RGB        points float64 (F, 5, 2) of the faces that the flow's own finder sees in it,
                                          finder: its name, or "" where the flow has none
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cameo.flows import Flow, Outcome, flow_module
from cameo.loading import told_apart
from cameo.pixels import Pixels
from cameo.session import Session, Tensor


class FlowSession(Session):
    """Runs photos of a flow's names through `run`; `close` frees its networks."""

    def __init__(self, flow: Flow, run: Callable[[Mapping[str, Pixels]], Outcome], close: Callable[[], None]) -> None:
        self._flow = flow
        self._made = run
        self._close = close

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the flow makes of its photos, or the faces in `find`, as above."""
        photos = {name: np.asarray(feed[0], np.uint8) for name, feed in feeds.items()}
        if "find" in photos:
            return {"points": _points(self._flow.find_faces(photos["find"])), "finder": np.array(self._flow.finder)}
        made = self._made(photos)
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
        return FlowSession(loaded.flow, loaded.run, loaded.close)
    return _on_originals(Path(spec["bundle"]), spec["originals"], spec["parts"], spec["flow_options"])


def _on_originals(
    folder: Path, weights: Mapping[str, str], parts: Mapping[str, str], options: Mapping[str, Any]
) -> FlowSession:
    from cameo.bundle import Bundle
    from exporters import open_original

    bundle = Bundle(folder)
    module = flow_module(bundle.manifest.flow)
    chosen, request = told_apart(module, options)
    assets = {name: bundle.verified(file) for name, file in bundle.manifest.assets.items()}
    with ExitStack() as opening:
        sessions = {
            name: opening.enter_context(open_original(name, Path(weights[name]), parts.get(name, "")))
            for name in bundle.networks
        }
        flow = module.open_flow(sessions, assets, chosen)
        return FlowSession(flow, lambda photos: flow.run(photos, request), opening.pop_all().close)
