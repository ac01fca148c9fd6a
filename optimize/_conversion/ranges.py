"""What values the tensors of a graph take on calibration photos, and what FP16 would make of them.

FP16 has 10 bits after the leading one and exponents from 2^-14 to 2^15. Rounding to it costs a tensor about 2^-12 of
its root mean square, whatever its scale, until it leaves that range: above 65504 the loss is infinite, and towards
2^-24 it grows to everything. So one figure says both, taken per channel, as one channel of tiny values does not show in
its tensor:

    loss = rms(x - fp16(x)) / rms(x), the largest of all channels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from torch import Tensor


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a tensor, its loss in FP16 (see the module), and its values per photo."""

    low: float
    high: float
    loss: float
    values: int

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))


@dataclass
class _Seen:
    """Of one tensor so far: extremes, and per channel the sums of squares of its values and of its rounding errors."""

    low: Any
    high: Any
    squares: Any
    errors: Any
    values: int

    def join(self, other: _Seen) -> _Seen:
        low, high = self.low.minimum(other.low), self.high.maximum(other.high)
        return _Seen(low, high, self.squares + other.squares, self.errors + other.errors, other.values)

    def range(self) -> Range:
        loss = (self.errors / self.squares).nan_to_num(0, posinf=float("inf")).sqrt()  # 0 / 0: nothing to lose
        return Range(float(self.low), float(self.high), float(loss.max()), self.values)


class Ranges:
    """Collects ranges while graphs run: give `observe` to `Reference.run`. Keeps some numbers a channel, no tensor."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def observe(self, name: str, tensor: Tensor) -> None:
        """Take in one tensor; those that are no floats are left out."""
        if tensor.is_floating_point() and tensor.numel():
            found = _look(tensor, by_channel=tensor.ndim > 2)
            self._seen[name] = self._seen[name].join(found) if name in self._seen else found

    def found(self) -> dict[str, Range]:
        """The range of every tensor that was seen."""
        return {name: seen.range() for name, seen in self._seen.items()}


def _look(tensor: Tensor, by_channel: bool) -> _Seen:
    """Channels are axis 1; vectors have one value of each, which says nothing, and count as a whole."""
    values = tensor.float()
    axes = [axis for axis in range(values.ndim) if axis != 1] if by_channel else list(range(values.ndim))
    low, high = values.aminmax()
    error = values.half().float().sub_(values)
    return _Seen(low, high, _energy(values, axes), _energy(error, axes), tensor.numel())


def _energy(values: Tensor, axes: list[int]) -> Tensor:
    """The sum of squares along `axes`, float64 `(C,)`."""
    import torch

    return torch.linalg.vector_norm(values, dim=axes or None).reshape(-1).double().square()


def constant_ranges(model: onnx.ModelProto) -> Mapping[str, Range]:
    """The range of every floating-point initializer, by its channels (axis 0 and axis 1, whichever loses more)."""
    import onnx
    import torch

    found = {}
    for initializer in model.graph.initializer:
        if initializer.data_type == onnx.TensorProto.FLOAT and 0 not in initializer.dims:
            tensor = torch.tensor(onnx.numpy_helper.to_array(initializer))
            whole = _look(tensor, by_channel=False).range()
            views = [tensor, tensor.transpose(0, 1)] if tensor.ndim > 1 else []
            losses = [_look(v, True).range().loss for v in views if tensor.numel() > v.shape[1] > 1]
            found[initializer.name] = Range(whole.low, whole.high, max([whole.loss, *losses]), whole.values)
    return found
