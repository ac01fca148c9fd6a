"""A network whose convolutions compute as INT8 engines will, so that its weights learn to live with it.

    conv(x, w) -> conv(q(x), q(w)),   q(v) = s clip(round(v / s), -127, 127)

Weights have one s per output channel, their largest magnitude / 127; inputs one per tensor, from a threshold. That is
what `optimize/_conversion/int8_graph.py` writes into graphs. Backwards q is the identity where it does not clip
(straight-through estimator). Convolutions that read the photo or give the picture stay in floating point, because 8
bits with a sign are fewer than a photo has. Networks need no second form for it (docs/decisions/096).

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
CVPR 2018; Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from compress.recovery.feeds import Feeds

LARGEST = 127
KEPT_SHARE = 0.9999  # of an input's values lie below its threshold: a few stray ones must not make all steps coarse
IMAGE_CHANNELS = 3

_Arguments = tuple[Any, ...]


class FakeQuantized(nn.Module):
    """`network` with convolutions in fake INT8; it has no weights of its own."""

    thresholds: Tensor

    def __init__(self, network: nn.Module, run: Callable[[nn.Module, Feeds], Tensor], batches: Iterable[Feeds]):
        """Thresholds are those that `run(network, batch)` needs on these batches."""
        super().__init__()
        self.network = network
        observed: list[float] = []
        with torch.inference_mode():
            for batch in batches:
                with _Observing() as observing:
                    run(network, batch)
                found = observing.found
                observed = [max(pair) for pair in zip(observed, found, strict=True)] if observed else found
        self.register_buffer("thresholds", torch.tensor(observed), persistent=False)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """What the network gives for these inputs in fake INT8."""
        with _Quantizing(self.thresholds):
            result: Tensor = self.network(*inputs, **named)
        return result


class _Convolutions(TorchFunctionMode):
    """Sees to the inputs and weights of every convolution that is called while it is open."""

    def __torch_function__(self, function: Any, types: Any, args: _Arguments = (), kwargs: Any = None) -> Any:
        if function in (F.conv2d, F.conv_transpose2d):
            (x, weight, *others), options = args, kwargs or {}
            groups = options.get("groups", others[4] if len(others) > 4 else 1)  # the same place in both
            transposed = function is F.conv_transpose2d
            outputs = weight.shape[1] * groups if transposed else weight.shape[0]
            if IMAGE_CHANNELS not in (x.shape[1], outputs):
                axis = 1 if transposed and groups == 1 else 0
                args = (*self._seen_to(x, weight, axis), *others)
        return function(*args, **(kwargs or {}))

    def _seen_to(self, x: Tensor, weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class _Observing(_Convolutions):
    """Notes the threshold of each input, in order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def _seen_to(self, x: Tensor, weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        magnitudes = x.detach().float().abs().flatten()
        place = max(1, round(KEPT_SHARE * magnitudes.numel()))
        self.found.append(float(magnitudes.kthvalue(place).values))
        return x, weight


class _Quantizing(_Convolutions):
    """Rounds each input by the threshold of its call, and weights per output channel."""

    def __init__(self, thresholds: Tensor) -> None:
        super().__init__()
        self._scales = iter((thresholds / LARGEST).clamp_min(1e-8))

    def _seen_to(self, x: Tensor, weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            others = [other for other in range(weight.ndim) if other != axis]
            scales = (weight.float().abs().amax(others) / LARGEST).clamp_min(1e-8)
        no_offset = torch.zeros_like(scales, dtype=torch.int32)
        return (
            torch.fake_quantize_per_tensor_affine(
                x.float(), next(self._scales), no_offset[:1].squeeze(), -LARGEST, LARGEST
            ),
            torch.fake_quantize_per_channel_affine(weight.float(), scales, no_offset, axis, -LARGEST, LARGEST),
        )
