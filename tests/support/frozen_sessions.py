"""Sessions over frozen TensorFlow 1 graphs, to check flows against the originals before any export."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cameo.session import Session, Tensor


class FrozenSession(Session):
    """The part of a graph that computes `outputs` (result name -> tensor name) from its image and constant feeds."""

    def __init__(self, path: Path, outputs: Mapping[str, str], feeds: Mapping[str, Any]) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow.compat.v1 as tf

        graph = tf.Graph()
        with graph.as_default():
            definition = tf.GraphDef()
            definition.ParseFromString(path.read_bytes())
            tf.import_graph_def(definition, name="")
        self._session = tf.Session(graph=graph)
        self._outputs, self._feeds = dict(outputs), dict(feeds)

    def _fetch(self, feeds: Mapping[str, Any]) -> dict[str, Tensor]:
        return dict(self._session.run(self._outputs, {**self._feeds, **feeds}))

    def close(self) -> None:
        self._session.close()


class FrozenGenerator(FrozenSession):
    """A cartoon generator: one image at a time and BGR in the graph, batches of RGB outside."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, {"result": "output_image:0"}, {})

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        images = [self._fetch({"input_image:0": image[..., ::-1]})["result"][..., ::-1] for image in feeds["image"]]
        return {"result": np.stack(images)}


class FrozenCompanion(FrozenSession):
    """The detector or the landmark network."""

    def __init__(self, path: Path, **outputs: str) -> None:
        super().__init__(path, outputs, {"training_flag:0": False})

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._fetch({"tower_0/images:0": feeds["image"]})


def open_generators(folder: Path) -> tuple[FrozenGenerator, FrozenGenerator]:
    """The background and the head network."""
    return FrozenGenerator(folder / "cartoon_bg.pb"), FrozenGenerator(folder / "cartoon_h.pb")


def open_companions(folder: Path) -> tuple[FrozenCompanion, FrozenCompanion]:
    """The face detector and the landmark network."""
    detector = FrozenCompanion(
        folder / "detector.pb",
        boxes="tower_0/boxes:0",
        scores="tower_0/scores:0",
        count="tower_0/num_detections:0",
    )
    return detector, FrozenCompanion(folder / "keypoints.pb", prediction="tower_0/prediction:0")
