"""The ONNX operators that our graphs use, in torch: each takes a `Call` and gives a tensor, or a tuple of several.

Every result has the dtype that the graph says. Elementwise operators of a half graph round after each of them, as torch
does; sums (convolutions, products of matrices, means, interpolation) are accumulated in FP32 and rounded once, as
tensor cores do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One node with its inputs (None where an optional one is left out)."""

    op: str
    inputs: Sequence[Any]
    attributes: Mapping[str, Any]
    outputs: int

    def input(self, index: int) -> Any:
        """The input at `index`, None where there is none."""
        return self.inputs[index] if index < len(self.inputs) else None

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def integers(self, index: int, name: str) -> list[int] | None:
        """A list that newer opsets take as an input and older ones as an attribute."""
        given = self.input(index)
        return self.get(name) if given is None else [int(value) for value in given.reshape(-1).tolist()]


def operators() -> Mapping[str, Callable[[Call], Any]]:
    """The function of every operator that is known."""
    import torch
    from torch.nn import functional as F

    one = {
        "Abs": torch.abs,
        "Cos": torch.cos,
        "Exp": torch.exp,
        "Identity": lambda x: x,
        "Neg": torch.neg,
        "Reciprocal": torch.reciprocal,
        "Relu": torch.relu,
        "Sigmoid": torch.sigmoid,
        "Sin": torch.sin,
        "Softplus": F.softplus,
        "Sqrt": torch.sqrt,
        "Tanh": torch.tanh,
    }
    two = {
        "Add": torch.add,
        "Equal": torch.eq,
        "MatMul": torch.matmul,
        "Max": torch.maximum,
        "Min": torch.minimum,
        "Mul": torch.mul,
        "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
        "Pow": torch.pow,
        "Sub": torch.sub,
    }
    return {
        **{op: lambda call, f=f: f(call.inputs[0]) for op, f in one.items()},
        **{op: lambda call, f=f: f(call.inputs[0], call.inputs[1]) for op, f in two.items()},
        "AveragePool": _average_pool,
        "Cast": _cast,
        "Clip": lambda call: call.inputs[0].clamp(call.input(1), call.input(2)),
        "Concat": lambda call: torch.cat(list(call.inputs), call.get("axis")),
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "DepthToSpace": _depth_to_space,
        "Div": _divide,
        "Expand": lambda call: call.inputs[0] * torch.ones(call.inputs[1].tolist(), dtype=call.inputs[0].dtype),
        "Flatten": lambda call: call.inputs[0].reshape(math.prod(call.inputs[0].shape[: call.get("axis", 1)]), -1),
        "Gather": _gather,
        "Gemm": _gemm,
        "GridSample": _grid_sample,
        "LeakyRelu": lambda call: F.leaky_relu(call.inputs[0], call.get("alpha", 0.01)),
        "MaxPool": _max_pool,
        "Pad": _pad,
        "ReduceMean": lambda call: call.inputs[0].mean(_axes(call), bool(call.get("keepdims", 1))),
        "ReduceSum": lambda call: call.inputs[0].sum(_axes(call), bool(call.get("keepdims", 1))),
        "Reshape": _reshape,
        "Resize": _resize,
        "Shape": lambda call: torch.tensor(call.inputs[0].shape[call.get("start", 0) : call.get("end")]),
        "Slice": _slice,
        "Softmax": lambda call: call.inputs[0].softmax(call.get("axis", -1)),
        "Split": _split,
        "Squeeze": lambda call: call.inputs[0].squeeze(tuple(_axes(call))),
        "Transpose": lambda call: call.inputs[0].permute(call.get("perm", [*range(call.inputs[0].ndim)][::-1])),
        "Unsqueeze": _unsqueeze,
    }


def dtype_of(onnx_type: int) -> Any:
    """The torch dtype of an ONNX element type."""
    import torch
    from onnx import TensorProto

    return {
        TensorProto.FLOAT: torch.float32,
        TensorProto.FLOAT16: torch.float16,
        TensorProto.DOUBLE: torch.float64,
        TensorProto.UINT8: torch.uint8,
        TensorProto.INT32: torch.int32,
        TensorProto.INT64: torch.int64,
        TensorProto.BOOL: torch.bool,
    }[onnx_type]


def _cast(call: Call) -> Tensor:
    return call.inputs[0].to(dtype_of(call.get("to")))


def _divide(call: Call) -> Tensor:
    import torch

    whole = not call.inputs[0].is_floating_point()
    return torch.div(call.inputs[0], call.inputs[1], rounding_mode="trunc" if whole else None)


def _axes(call: Call) -> list[int]:
    return call.integers(1, "axes") or list(range(call.inputs[0].ndim))


def _pads(call: Call, x: Tensor, kernel: Sequence[int], constant: float = 0.0) -> Tensor:
    """`x` (N, C, ...) padded as the attributes `pads` or `auto_pad` say."""
    from torch.nn import functional as F

    rank = len(kernel)
    pads = call.get("pads", [0] * 2 * rank)
    if call.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
        spans = [
            max((math.ceil(side / step) - 1) * step + (size - 1) * spread + 1 - side, 0)
            for side, step, size, spread in zip(x.shape[2:], strides, kernel, dilations, strict=True)
        ]
        small, large = [span // 2 for span in spans], [span - span // 2 for span in spans]
        pads = [*small, *large] if call.get("auto_pad") == b"SAME_UPPER" else [*large, *small]
    if not any(pads):
        return x
    pairs = [(pads[axis], pads[axis + rank]) for axis in reversed(range(rank))]
    return F.pad(x, [side for pair in pairs for side in pair], value=constant)


def _conv(call: Call) -> Tensor:
    from torch.nn import functional as F

    x, weight = call.inputs[:2]
    rank = weight.ndim - 2
    settings = (call.get("strides", [1] * rank), 0, call.get("dilations", [1] * rank), call.get("group", 1))
    function = {1: F.conv1d, 2: F.conv2d}[rank]
    return _summed(lambda *parts: function(*parts, *settings), _pads(call, x, weight.shape[2:]), weight, call.input(2))


def _conv_transpose(call: Call) -> Tensor:
    from torch.nn import functional as F

    strides, pads = call.get("strides", [1, 1]), call.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:] or call.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise NotImplementedError("uneven padding")
    extra = call.get("output_padding", [0, 0])
    settings = (strides, pads[:2], extra, call.get("group", 1), call.get("dilations", [1, 1]))
    return _summed(lambda *parts: F.conv_transpose2d(*parts, *settings), *call.inputs[:2], call.input(2))


def _gemm(call: Call) -> Tensor:
    a = call.inputs[0].t() if call.get("transA", 0) else call.inputs[0]
    b = call.inputs[1].t() if call.get("transB", 0) else call.inputs[1]
    product = call.get("alpha", 1.0) * (a @ b)
    return product if call.input(2) is None else product + call.get("beta", 1.0) * call.inputs[2]


def _summed(function: Callable[..., Tensor], *parts: Tensor | None) -> Tensor:
    """`function` in the parts' own dtype; where this CPU has no half kernels, in FP32 and rounded once: the same."""
    import torch

    first = parts[0]
    assert first is not None
    if first.dtype != torch.float16 or torch.ops.mkldnn._is_mkldnn_fp16_supported():
        return function(*parts)
    return function(*(part if part is None else part.float() for part in parts)).half()


def _average_pool(call: Call) -> Tensor:
    from torch.nn import functional as F

    x, kernel = call.inputs[0].float(), call.get("kernel_shape")
    strides = call.get("strides", [1] * len(kernel))
    sums = F.avg_pool2d(_pads(call, x, kernel), kernel, strides)
    if not call.get("count_include_pad", 0):
        sums = sums / F.avg_pool2d(_pads(call, x.new_ones(x.shape), kernel), kernel, strides)
    return sums.to(call.inputs[0].dtype)


def _max_pool(call: Call) -> Tensor:
    from torch.nn import functional as F

    kernel = call.get("kernel_shape")
    padded = _pads(call, call.inputs[0], kernel, -math.inf)
    return F.max_pool2d(padded, kernel, call.get("strides", [1] * len(kernel)), ceil_mode=bool(call.get("ceil_mode")))


def _depth_to_space(call: Call) -> Tensor:
    x, size = call.inputs[0], call.get("blocksize")
    n, c, h, w = x.shape
    inner = c // size**2
    if call.get("mode", b"DCR") == b"DCR":
        blocks = x.reshape(n, size, size, inner, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, inner, size, size, h, w).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, inner, h * size, w * size)


def _gather(call: Call) -> Tensor:
    x, indices = call.inputs
    axis = call.get("axis", 0) % x.ndim
    chosen = x.index_select(axis, indices.reshape(-1) % x.shape[axis])
    return chosen.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _grid_sample(call: Call) -> Tensor:
    """Pictures at places that have the grid's own precision, interpolated in FP32."""
    from torch.nn import functional as F

    x, grid = call.inputs
    mode = {b"bilinear": "bilinear", b"linear": "bilinear", b"nearest": "nearest"}[call.get("mode", b"linear")]
    padding = call.get("padding_mode", b"zeros").decode()
    sampled = F.grid_sample(x.float(), grid.float(), mode, padding, align_corners=bool(call.get("align_corners", 0)))
    return sampled.to(x.dtype)


def _reshape(call: Call) -> Tensor:
    x, wanted = call.inputs[0], call.inputs[1].tolist()
    if not call.get("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


def _split(call: Call) -> tuple[Tensor, ...]:
    x, axis = call.inputs[0], call.get("axis", 0)
    even = -(-x.shape[axis] // call.outputs)
    return x.split(call.integers(1, "split") or even, axis)


def _slice(call: Call) -> Tensor:
    x = call.inputs[0]
    starts, ends = call.integers(1, "starts") or [], call.integers(2, "ends") or []
    axes = call.integers(3, "axes") or list(range(len(starts)))
    steps = call.integers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = range(x.shape[axis])[start:end:step]
        x = x.index_select(axis, x.new_tensor(list(places)).long())
    return x


def _unsqueeze(call: Call) -> Tensor:
    x, axes = call.inputs[0], call.integers(1, "axes") or []
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _pad(call: Call) -> Tensor:
    from torch.nn import functional as F

    x, pads = call.inputs[0], call.integers(1, "pads") or []
    mode = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}[call.get("mode", b"constant")]
    pairs = [(pads[axis], pads[axis + x.ndim]) for axis in reversed(range(x.ndim))]
    if mode != "constant":  # torch pads the last axes only
        while len(pairs) > 1 and pairs[-1] == (0, 0):
            pairs.pop()
    value = call.input(2)
    fill = {"value": float(value)} if mode == "constant" and value is not None else {}
    return F.pad(x, [side for pair in pairs for side in pair], mode, **fill)


def _resize(call: Call) -> Tensor:
    """Nearest or linear, one axis after the other, computed in FP32."""
    x = call.inputs[0]
    scales, sizes = call.input(2), call.input(3)
    shape = [int(size) for size in sizes.tolist()] if sizes is not None and sizes.numel() else None
    if shape is not None:
        ratios = [size / side for size, side in zip(shape, x.shape, strict=True)]
    else:
        ratios = scales.double().tolist()
        shape = [math.floor(side * ratio) for side, ratio in zip(x.shape, ratios, strict=True)]
    result = x.float()
    for axis, (size, ratio) in enumerate(zip(shape, ratios, strict=True)):
        if size != x.shape[axis]:
            result = _resize_axis(call, result, axis, size, ratio)
    return result.to(x.dtype)


def _resize_axis(call: Call, x: Tensor, axis: int, size: int, ratio: float) -> Tensor:
    import torch

    side, place = x.shape[axis], torch.arange(size, dtype=torch.float64)
    mode = call.get("coordinate_transformation_mode", b"half_pixel")
    sources = {
        b"asymmetric": lambda: place / ratio,
        b"half_pixel": lambda: (place + 0.5) / ratio - 0.5,
        b"pytorch_half_pixel": lambda: (place + 0.5) / ratio - 0.5 if size > 1 else place * 0,
        b"align_corners": lambda: place * (side - 1) / max(size - 1, 1),
    }
    if mode not in sources or call.get("mode", b"nearest") not in (b"nearest", b"linear"):
        raise NotImplementedError(f"mode {call.get('mode')} with {mode}")
    source = sources[mode]()
    if call.get("mode", b"nearest") == b"nearest":
        rounding = call.get("nearest_mode", b"round_prefer_floor")
        near = {
            b"floor": torch.floor,
            b"ceil": torch.ceil,
            b"round_prefer_floor": lambda s: torch.ceil(s - 0.5),
            b"round_prefer_ceil": lambda s: torch.floor(s + 0.5),
        }[rounding](source)
        return x.index_select(axis, near.long().clamp(0, side - 1))
    source = source.clamp(0, side - 1)
    low = source.floor().long()
    share = (source - low).float().reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    high = (low + 1).clamp(max=side - 1)
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
