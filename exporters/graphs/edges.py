"""The edges that every exported network shares: uint8 RGB NHWC photos in, uint8 RGB NHWC photos out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

BGR = (2, 1, 0)
RGB = (0, 1, 2)


def add_image_input(model: onnx.ModelProto, channels: tuple[int, ...], size: tuple[int | str, int | str]) -> None:
    """Put `image`, uint8 (N, H, W, 3) RGB in 0..255, before the model's first input, float32 NCHW, in place.

    The cast comes first: TensorRT takes uint8 inputs into nothing else.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    inner = graph.input[0].name
    nodes = [
        helper.make_node("Cast", ["image"], ["image_float"], "image/cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["image_float"], ["image_nchw"], "image/to_nchw", perm=[0, 3, 1, 2]),
        *_reorder("image", "image_nchw", inner, channels, graph),
    ]
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)
    del graph.input[0]
    graph.input.insert(0, helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *size, 3]))


def add_image_output(
    model: onnx.ModelProto, channels: tuple[int, ...], size: tuple[int | str, int | str] = ("H", "W")
) -> None:
    """Turn the model's one float32 NCHW output in 0..255 into `result`, uint8 (N, H, W, 3) RGB, in place.

    The cast truncates, as the originals do; it comes last because TensorRT gives uint8 from nothing else.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    inner = graph.output[0].name
    graph.node.extend(_reorder("result", inner, "result_nchw", channels, graph))
    graph.node.extend(
        [
            helper.make_node("Transpose", ["result_nchw"], ["result_float"], "result/to_nhwc", perm=[0, 2, 3, 1]),
            helper.make_node("Cast", ["result_float"], ["result"], "result/cast", to=TensorProto.UINT8),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("result", TensorProto.UINT8, ["N", *size, 3]))


def _reorder(
    edge: str, source: str, target: str, channels: tuple[int, ...], graph: onnx.GraphProto
) -> list[onnx.NodeProto]:
    from onnx import helper, numpy_helper

    if channels == RGB:
        return [helper.make_node("Identity", [source], [target], f"{edge}/channels")]
    order = f"{edge}_channel_order"
    graph.initializer.append(numpy_helper.from_array(np.array(channels, np.int64), order))
    return [helper.make_node("Gather", [source, order], [target], f"{edge}/channels", axis=1)]
