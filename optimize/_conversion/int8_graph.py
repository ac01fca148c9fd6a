"""Puts INT8 into a graph: Q/DQ pairs before the named convolutions, and their weights as INT8 behind a DQ.

    Conv(x, w) -> Conv(DQ(Q(x)), DQ(w8)),  w8[o] = round(w[o] / s[o]),  s[o] = max |w[o]| / 127,  no zero points

Every reader of x gets DQ(Q(x)), so that x need not be kept twice (docs/decisions/056); what a convolution gives stays
in floating point until the next one reads it, FP32 and not FP16 (docs/decisions/059). Biases stay FP32: TensorRT takes
no others. ONNX Runtime's own quantizer does it (docs/decisions/055).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

CONVOLUTIONS = ("Conv", "ConvTranspose")


def candidates(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The nodes that can be INT8, by name: convolutions by constant weights, no two of which share them.

    Grouped transposed ones are left out: none of the axes of their weights is that of the output channels.
    """
    constants = {initializer.name for initializer in model.graph.initializer}
    return {
        node.name: node
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS
        and node.input[1] in constants
        and (node.op_type == "Conv" or all(a.name != "group" or a.i == 1 for a in node.attribute))
    }


def int8_graph(model: onnx.ModelProto, nodes: Collection[str], thresholds: Mapping[str, float]) -> onnx.ModelProto:
    """`model` with the nodes called `nodes` in INT8; `thresholds` are the largest magnitudes of what they read."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    found = candidates(model)
    read = {found[name].input[0] for name in nodes}
    limits = {name: np.float32(thresholds[name]) for name in read}
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax, {n: TensorData(lowest=-limit, highest=limit) for n, limit in limits.items()}
        ),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=list(CONVOLUTIONS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(CONVOLUTIONS),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


def with_fp32(quantized: onnx.ModelProto, model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """`int8_graph` of `model`, with the nodes `kept` in FP32 again: what it would give without them, but quickly.

    The pairs that nothing reads any more are left in: they cost a session nothing, and a search makes hundreds of
    graphs, for each of which the quantizer would go through all nodes once for every tensor (docs/decisions/196).
    """
    import onnx

    found = candidates(model)
    restored = onnx.ModelProto()
    restored.CopyFrom(quantized)
    nodes = {node.name: node for node in restored.graph.node}
    present = {initializer.name for initializer in restored.graph.initializer}
    weights = {found[name].input[1] for name in kept}
    restored.graph.initializer.extend(
        one for one in model.graph.initializer if one.name in weights and one.name not in present
    )
    still_read = {node.input[0] for name, node in found.items() if name not in kept and _is_int8(nodes[name], node)}
    plain = {found[name].input[0] for name in kept} - still_read
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in plain or (index == 1 and node.name in kept):
                nodes[node.name].input[index] = name
    return restored


def _is_int8(node: onnx.NodeProto, plain: onnx.NodeProto) -> bool:
    return bool(node.input[1] != plain.input[1])
