"""PyTorch module → ONNX graph, cleaned of what torch writes around it."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporters.graphs import OPSET

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import nn

_NOISY = "torch.onnx._internal.exporter._registration"  # says that torchvision is not there, four times


def export_graph(
    module: nn.Module,
    size: tuple[int, int],
    outputs: Sequence[str],
    any_size: bool,
    others: Mapping[str, tuple[int, ...]] | None = None,
) -> onnx.ModelProto:
    """The graph of a module that takes one float32 `(N, 3, H, W)`, with N dynamic, and H and W too if `any_size`.

    `size` is the (height, width) it is traced with, and the only one unless `any_size`. `others` are more float32
    inputs, which the module takes after that one in this order: their shapes by name, without N.
    """
    import onnx_ir as ir
    import torch
    from onnx_ir.passes import common

    dynamic: dict[int, Any] = {0: torch.export.Dim("N")}
    if any_size:
        dynamic |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    more = others or {}
    batched = tuple({0: dynamic[0]} for _ in more)
    if any(one.kind is one.VAR_POSITIONAL for one in inspect.signature(module.forward).parameters.values()):
        batched = (batched,)  # torch wants those of `*args` together
    registry = logging.getLogger(_NOISY)
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecated calls
            program = torch.onnx.export(
                module.eval(),
                (torch.zeros(2, 3, *size), *(torch.zeros(2, *shape) for shape in more.values())),
                input_names=["pixels", *more],
                output_names=list(outputs),
                dynamic_shapes=(dynamic, *(batched if more else ())),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        registry.setLevel(level)
    model = program.model
    _forget_origins(model)
    _merge_slices(model)
    common.RemoveUnusedNodesPass()(model)
    return ir.to_proto(model)


def save_graph(model: onnx.ModelProto, network: str, out: Path) -> dict[str, Any]:
    """Name, check and write the graph; return its node counts."""
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes import common

    model.graph.name = network
    clean = ir.from_proto(model)
    common.RemoveUnusedNodesPass()(clean)
    model = ir.to_proto(clean)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)
    ops = Counter(node.op_type for node in model.graph.node)
    return {"onnx_nodes": ops.total(), "onnx_ops": dict(ops.most_common())}


def _forget_origins(model: ir.Model) -> None:
    """Drop what torch notes about where each node comes from, file names of this machine among it."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()


def _merge_slices(model: ir.Model) -> None:
    """Turn a crop, which torch writes as one Slice per axis, into a Slice of all axes: one copy instead of two."""
    for node in model.graph:
        inner = node.inputs[0].producer() if node.op_type == "Slice" and node.inputs[0] is not None else None
        if inner is None or inner.op_type != "Slice" or len(list(inner.outputs[0].uses())) > 1:
            continue
        parts = [[_constant(value) for value in slicing.inputs[1:]] for slicing in (inner, node)]
        if any(value is None for part in parts for value in part) or len(parts[0]) != len(parts[1]):
            continue
        if set(parts[0][2].tolist()) & set(parts[1][2].tolist()):  # twice along one axis
            continue
        node.replace_input_with(0, inner.inputs[0])
        for index, pair in enumerate(zip(*parts, strict=True), start=1):
            node.replace_input_with(index, _initializer(model, f"{node.outputs[0].name}/{index}", np.concatenate(pair)))


def _constant(value: ir.Value | None) -> Any:
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _initializer(model: ir.Model, name: str, array: Any) -> ir.Value:
    import onnx_ir as ir

    value = ir.val(name, const_value=ir.tensor(array, name=name))
    model.graph.register_initializer(value)
    return value
