"""Runs ONNX graphs in torch on the CPU, node by node, with the dtypes that the graph itself says.

ONNX Runtime's CPU provider computes FP16 graphs in FP32 and so hides what overflows; here FP16 is FP16: every result is
rounded to it, and 65520 is infinite (docs/decisions/051). Tensors are freed after their last use, and `observe` sees
each of them once.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cameo.errors import EngineError, EngineUnavailable
from optimize._conversion.reference_ops import Call, operators

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

Feeds = Mapping[str, NDArray[Any]]


class Reference:
    """One graph, ready to run."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """
        Raises:
            EngineUnavailable: torch is not installed.
            EngineError: the graph has an operator that is not known here.
        """
        import onnx

        if importlib.util.find_spec("torch") is None:
            raise EngineUnavailable("FP16 is measured in torch, which is not installed: pip install torch")
        import torch

        known = operators()
        for node in model.graph.node:
            if node.op_type not in known and node.op_type != "Constant":
                raise EngineError(
                    f"node '{node.name}' is of operator {node.op_type}, which the FP16 reference does not know: "
                    "add it to optimize/_conversion/reference_ops.py"
                )
        self._operators = known
        self._nodes = [
            (node, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}) for node in model.graph.node
        ]
        self._outputs = [value.name for value in model.graph.output]
        self._constants = {i.name: torch.tensor(onnx.numpy_helper.to_array(i)) for i in model.graph.initializer}
        self._uses = Counter([name for node in model.graph.node for name in node.input] + self._outputs)

    def run(
        self, feeds: Feeds, observe: Callable[[str, Tensor], None] = lambda name, tensor: None
    ) -> dict[str, NDArray[Any]]:
        """Every output of the graph; `observe` is called with every tensor that a node computes.

        Raises:
            EngineError: a node cannot be computed as the graph says.
        """
        import torch

        tensors: dict[str, Any] = {"": None, **self._constants}
        tensors |= {name: torch.tensor(array) for name, array in feeds.items()}
        left = self._uses.copy()
        with torch.inference_mode():
            for node, attributes in self._nodes:
                results = self._compute(node, attributes, [tensors[name] for name in node.input])
                for name, tensor in zip(node.output, results, strict=True):
                    observe(name, tensor)
                    tensors[name] = tensor
                for name in node.input:
                    left[name] -= 1
                    if not left[name] and name not in self._constants:
                        tensors.pop(name, None)
        return {name: tensors[name].numpy() for name in self._outputs}

    def _compute(self, node: onnx.NodeProto, attributes: Mapping[str, Any], inputs: list[Any]) -> tuple[Tensor, ...]:
        import onnx
        import torch

        if node.op_type == "Constant":
            return (torch.tensor(onnx.numpy_helper.to_array(attributes["value"])),)
        try:
            results = self._operators[node.op_type](Call(node.op_type, inputs, attributes, len(node.output)))
        except (RuntimeError, NotImplementedError, ValueError, KeyError, TypeError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise EngineError(
                f"the FP16 reference cannot compute node '{node.name}' ({node.op_type}): {reason}; "
                "complete its operator in optimize/_conversion/reference_ops.py"
            ) from error
        return results if isinstance(results, tuple) else (results,)
