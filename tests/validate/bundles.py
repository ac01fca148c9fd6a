"""Small bundles for validation's tests: a pointwise network, or a real one, under several engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from cameo.artifact import sha256_of, size_of
from cameo.bundle import EngineEntry, Manifest, NetworkEntry, StoredFile
from cameo.tensors import TensorSpec

EDGE = ("N", "H", "W", 3)


def halve() -> onnx.ModelProto:
    """A network whose result is half of each value of the image."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "half"], ["halved"]),
        helper.make_node("Cast", ["halved"], ["result"], to=TensorProto.UINT8),
    ]
    edges = [helper.make_tensor_value_info(name, TensorProto.UINT8, list(EDGE)) for name in ("image", "result")]
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    graph = helper.make_graph(nodes, "halve", edges[:1], edges[1:], [half])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def swap_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, giving BGR for RGB: the mistake that every gate must catch."""
    order = helper.make_tensor("reversed", TensorProto.INT64, [3], [2, 1, 0])
    return _append(model, [helper.make_node("Gather", ["unbroken", "reversed"], ["result"], axis=3)], order)


def narrow_range(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its result in 0..127: a wrong range."""
    two = helper.make_tensor("two", TensorProto.UINT8, [], [2])
    return _append(model, [helper.make_node("Div", ["unbroken", "two"], ["result"])], two)


def _append(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constant: onnx.TensorProto) -> onnx.ModelProto:
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    for node in broken.graph.node:
        node.output[:] = ["unbroken" if name == "result" else name for name in node.output]
    broken.graph.node.extend(nodes)
    broken.graph.initializer.append(constant)
    onnx.checker.check_model(broken, full_check=True)
    return broken


def write_bundle(
    folder: Path,
    network: str,
    engines: Mapping[str, onnx.ModelProto],
    change: Callable[[EngineEntry], EngineEntry] = lambda entry: entry,
) -> Path:
    """A bundle of one image network, whose ONNX Runtime engines are `engines` by "precision"."""
    (folder / "engines").mkdir(parents=True)
    entries = []
    for precision, model in engines.items():
        path = folder / "engines" / f"{precision}.onnx"
        onnx.save(model, path)
        stored = StoredFile(f"engines/{precision}.onnx", "onnx", sha256_of(path), size_of(path))
        entries.append(change(EngineEntry("onnxruntime", precision, stored)))
    edges = [(TensorSpec(name, "uint8", EDGE),) for name in ("image", "result")]
    entry = NetworkEntry(network, edges[0], edges[1], entries[0].file, {}, tuple(entries))
    manifest = Manifest("test", "test", {network: entry}, {}, {})
    (folder / "bundle.json").write_text(manifest.to_json())
    return folder
