"""DCT-Net's four networks as frozen graphs with filled weights: those that the expected values were made with.

The authors' companions (a detector and a landmark network) are too intricate to be drawn here by hand. Their graphs
are written from the listing in `tests/golden/keys`: names, operations, edges, attributes and small constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exporters.dctnet import frozen_form
from tests.support import fill
from tests.support.golden import key_listing, published_keys

GENERATORS = {"cartoon_bg": "bg/", "cartoon_h": ""}
"""Their file names and the salt of their weights."""
COMPANIONS = {"detector": "dctnet_detector_standin", "keypoints": "dctnet_keypoints_standin"}
"""Their file names and those of their listings."""


def write_generator(name: str, folder: Path) -> Path:
    """Write the background or the head network with its published widths."""
    weights = fill.fill_state_dict(frozen_form.published_shapes(), GENERATORS[name])
    return frozen_form.write_frozen_graph(weights, folder / f"{name}.pb")


def write_companion(name: str, folder: Path) -> Path:
    """Write the detector or the landmark network."""
    from tensorflow.compat.v1 import GraphDef

    listing = COMPANIONS[name]
    constants = {**fill.fill_state_dict(published_keys(listing)), ANCHORS: anchors()}
    graph = GraphDef()
    for node, op, inputs, attributes in key_listing(f"{listing}.graph"):
        written = graph.node.add(name=node, op=op, input=inputs)
        for key, value in attributes.items():
            _set(written, key, value, constants)
    path = folder / f"{name}.pb"
    path.write_bytes(graph.SerializeToString())
    return path


def _set(node: Any, key: str, value: Any, constants: Mapping[str, fill.Array]) -> None:
    """Give the node an attribute; its operation's definition tells the type."""
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    kind = next(attribute.type for attribute in op_def_registry.get(node.op).attr if attribute.name == key)
    attribute = node.attr[key]
    match kind:
        case "type":
            attribute.type = tf.as_dtype(value).as_datatype_enum
        case "shape":
            sides = value and [None if side < 0 else side for side in value]
            attribute.shape.CopyFrom(tf.TensorShape(sides).as_proto())
        case "tensor":
            array = np.array(value.get("value", constants.get(node.name)), value["dtype"]).reshape(value["shape"])
            attribute.tensor.CopyFrom(tf.make_tensor_proto(array))
        case "list(int)":
            attribute.list.i.extend(value)
        case "bool":
            attribute.b = value
        case "int":
            attribute.i = value
        case "float":
            attribute.f = value
        case "string":
            attribute.s = value.encode()


ANCHORS = "tower_0/postprocessing/ExpandDims/input"


def anchors() -> fill.Array:
    """The detector's constant, float32 `(21824, 4)`: corners (ymin, xmin, ymax, xmax) in 0..1 of the boxes it looks in.

    Level 1 has boxes of 32 (16 to a cell), 64 (4) and 128 pixels of 1024, level 2 of 256, level 3 of 512; a cell's
    smaller boxes lie column by column.
    """
    levels = ((32, ((32, 4), (64, 2), (128, 1))), (16, ((256, 1),)), (8, ((512, 1),)))
    return np.concatenate([_level(cells, boxes) for cells, boxes in levels]).astype(np.float32)


def _level(cells: int, boxes: tuple[tuple[int, int], ...]) -> fill.Array:
    """The boxes `(side, per row)` of a grid of cells, corners in 0..1."""
    within = []
    for side, per_row in boxes:
        steps = (np.arange(per_row) - (per_row - 1) / 2) * side / per_row
        x, y = np.meshgrid(steps, steps, indexing="ij")
        within.append(np.stack([y - side / 2, x - side / 2, y + side / 2, x + side / 2], axis=-1).reshape(-1, 4))
    middles = (np.arange(cells) + 0.5) * 1024 / cells
    y, x = np.meshgrid(middles, middles, indexing="ij")
    middle = np.stack([y, x, y, x], axis=-1).reshape(-1, 1, 4)
    return np.clip((middle + np.concatenate(within)) / 1024, 0, 1).reshape(-1, 4)
