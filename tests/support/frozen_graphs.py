"""Small DCT-Net graphs with filled weights, in the spellings that different TensorFlow versions wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.dctnet import frozen_form as dctnet_frozen
from tests.support import fill


def small_shapes() -> dict[str, tuple[int, ...]]:
    """The generator's shapes at a quarter of its channels: the same graph, an eighth of the file."""

    def narrow(channels: int) -> int:
        return channels if channels == 3 else channels // 4

    return {
        name: tuple(shape[:2]) + tuple(map(narrow, shape[2:])) if len(shape) == 4 else tuple(map(narrow, shape))
        for name, shape in dctnet_frozen.published_shapes().items()
    }


def write_small(path: Path, salt: str = "") -> Path:
    """Write a narrow generator with filled weights."""
    return dctnet_frozen.write_frozen_graph(fill.fill_state_dict(small_shapes(), salt), path)


def read(path: Path) -> Any:
    """The file as GraphDef."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    return graph


def spell_like_tf_1_12(graph: Any) -> None:
    """Add for AddV2, Maximum(Mul) for LeakyRelu, and the ops under `generator_1/` as after reuse_variables()."""
    for node in [node for node in graph.node if node.op in ("AddV2", "LeakyRelu")]:
        if node.op == "AddV2":
            node.op = "Add"
        else:
            _decompose_leaky_relu(graph, node)
    renamed = {
        node.name: node.name.replace("generator/", "generator_1/", 1)
        for node in graph.node
        if node.name.startswith("generator/") and "/weights" not in node.name and "/biases" not in node.name
    }
    for node in graph.node:
        node.name = renamed.get(node.name, node.name)
        for index, source in enumerate(node.input):
            node.input[index] = renamed.get(source, source)


def _decompose_leaky_relu(graph: Any, node: Any) -> None:
    import tensorflow as tf

    name, source = node.name, node.input[0]
    slope = graph.node.add(name=f"{name}/alpha", op="Const")
    slope.attr["dtype"].type = tf.float32.as_datatype_enum
    slope.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(node.attr["alpha"].f, tf.float32))
    scaled = graph.node.add(name=f"{name}/mul", op="Mul", input=[slope.name, source])
    scaled.attr["T"].type = tf.float32.as_datatype_enum
    node.op = "Maximum"
    del node.input[:]
    node.input.extend([scaled.name, source])
    del node.attr["alpha"]
