"""Frozen TensorFlow graphs → ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporters.checkpoints.frozen_graph import node_name
from exporters.graphs import OPSET
from exporters.graphs.insertion_order import insertion_order

if TYPE_CHECKING:
    import onnx


def freeze_flag(graph: Any, flag: str) -> Any:
    """Return a copy of `graph` with the boolean placeholder `flag` False and every branch on it resolved.

    `tf.cond` is a Switch at each entry and a Merge at each exit: with a False predicate a Switch passes its data on
    output 0 and is dead on output 1; a node with a dead input is dead; a Merge passes the input that is alive.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in graph.node}
    false_nodes = {flag}
    for node in graph.node:
        if node.op == "Identity" and node_name(node.input[0]) in false_nodes:
            false_nodes.add(node.name)
    dead: set[str] = set()
    forward: dict[str, str] = {}
    for node in graph.node:
        inputs = [forward.get(source, source) for source in node.input]
        if node.op == "Switch" and node_name(node.input[1]) in false_nodes:
            forward[node.name] = forward[f"{node.name}:0"] = inputs[0]
            dead.add(f"{node.name}:1")
        elif node.op == "Merge":
            alive = [source for source in inputs if source not in dead]
            if len(alive) == 1:
                forward[node.name] = forward[f"{node.name}:0"] = alive[0]
        elif any(source.lstrip("^") in dead for source in node.input):
            dead.update((node.name, f"{node.name}:0"))
    resolved = tf.compat.v1.GraphDef(versions=graph.versions)
    for name, node in nodes.items():
        if name in forward or name in dead or name == flag:
            continue
        kept = resolved.node.add()
        kept.CopyFrom(node)
        del kept.input[:]
        kept.input.extend(forward.get(source, source) for source in node.input if not source.startswith("^"))
    return resolved


def to_onnx(graph: Any, image: str, outputs: list[str], shape: tuple[int, int, int, int]) -> onnx.ModelProto:
    """Convert `graph` to ONNX, with the placeholder `image` of NHWC `shape` (-1: dynamic) as NCHW input.

    Outputs of rank 4 become NCHW as well.
    """
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    tensors = [name if ":" in name else f"{name}:0" for name in outputs]
    placeholder = next(node for node in graph.node if node.name == image).attr["shape"].shape
    placeholder.Clear()
    for size in shape:
        placeholder.dim.add(size=size)
    part = tf.compat.v1.graph_util.extract_sub_graph(graph, [node_name(name) for name in tensors])
    with tf.Graph().as_default() as tf_graph:
        tf.import_graph_def(part, name="")
        pictures = [name for name in tensors if tf_graph.get_tensor_by_name(name).shape.rank == 4]
        with tf.compat.v1.Session(graph=tf_graph), insertion_order():
            converted = tfonnx.process_tf_graph(
                tf_graph,
                opset=OPSET,
                input_names=[f"{image}:0"],
                output_names=tensors,
                inputs_as_nchw=[f"{image}:0"],
                outputs_as_nchw=pictures,
            )
            return optimizer.optimize_graph(converted).make_model(image)
