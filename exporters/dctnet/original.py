"""DCT-Net's four frozen graphs in a TensorFlow 1 session, as their authors run them.

The generators take one picture without a batch axis, float32 `[H, W, 3]` BGR in 0..255, and give uint8 BGR; the
detector and the landmarks take batches of float32 RGB in 0..255 and a `training_flag`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cameo.errors import CheckpointError, EngineError
from cameo.session import Session, Tensor
from exporters.checkpoints.frozen_graph import node_name, read_frozen_graph

LIBRARIES = ("tensorflow", "tensorflow-cpu")


@dataclass(frozen=True)
class Ends:
    """The tensors by which a graph is run: its picture, and its outputs under the names that engines give them."""

    image: str
    outputs: Mapping[str, str]
    flag: str = ""

    @property
    def batched(self) -> bool:
        """Whether the graph has a batch axis, as all but the generators do."""
        return bool(self.flag)


_GENERATOR = Ends("input_image:0", {"result": "output_image:0"})
_ENDS: Mapping[str, Ends] = {
    "dctnet-background": _GENERATOR,
    "dctnet-head": _GENERATOR,
    "dctnet-detector": Ends(
        "tower_0/images:0",
        {"boxes": "tower_0/boxes:0", "scores": "tower_0/scores:0", "count": "tower_0/num_detections:0"},
        flag="training_flag:0",
    ),
    "dctnet-landmarks": Ends("tower_0/images:0", {"prediction": "tower_0/prediction:0"}, flag="training_flag:0"),
}


class FrozenGraphSession(Session):
    """A frozen graph in `tf.compat.v1.Session`, fed uint8 RGB batches as its engines are."""

    def __init__(self, graph_def: Any, ends: Ends) -> None:
        import tensorflow as tf

        self._ends = ends
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
        self._session = tf.compat.v1.Session(graph=graph)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs for `image` uint8 `(N, H, W, 3)` RGB; the generators' `result` is uint8 RGB as well."""
        return self._run_batch(feeds["image"]) if self._ends.batched else self._run_each(feeds["image"])

    def _run_batch(self, images: Tensor) -> dict[str, Tensor]:
        feeds = {self._ends.image: images.astype(np.float32), self._ends.flag: False}
        return self._fetch(feeds)

    def _run_each(self, images: Tensor) -> dict[str, Tensor]:
        bgr = [image[..., ::-1].astype(np.float32) for image in images]
        results = [self._fetch({self._ends.image: image})["result"] for image in bgr]
        return {"result": np.stack(results)[..., ::-1]}

    def _fetch(self, feeds: Mapping[str, Any]) -> dict[str, Tensor]:
        import tensorflow as tf

        try:
            fetched: dict[str, Tensor] = self._session.run(dict(self._ends.outputs), dict(feeds))
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0][:200]
            raise EngineError(
                f"the original cannot run a picture of shape {feeds[self._ends.image].shape}: {reason}; "
                "use sides that are multiples of 4"
            ) from error
        return fetched

    def close(self) -> None:
        self._session.close()


def open_original(network: str, weights: Path) -> FrozenGraphSession:
    """The frozen graph at `weights`, whose ops are checked before TensorFlow sees it.

    Raises:
        CheckpointError: not this network's frozen graph.
    """
    ends = _ENDS.get(network)
    if ends is None:
        raise CheckpointError(f"DCT-Net has no network '{network}': choose one of {', '.join(_ENDS)}")
    tensors = [ends.image, *([ends.flag] if ends.flag else []), *ends.outputs.values()]
    graph = read_frozen_graph(weights, network, tuple(map(node_name, tensors)))
    return FrozenGraphSession(graph, ends)
