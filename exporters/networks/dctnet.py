"""The DCT-Net generator in torch: a U-Net whose output a guided filter ties to the edges of the photo.

    x  = image / 127.5 - 1                                            float32 BGR in [-1, 1]
    x0 = f(Conv x)          x1 = f(Conv_2 f(Conv_1 x0))               f = leaky ReLU, slope 0.2
    y  = f(Conv_4 f(Conv_3 x1)),  4 times y + conv2 f(conv1 y),  f(Conv_5 y)
    y  = f(Conv_7 f(Conv_6 (up y + x1)))
    y  = Conv_9 f(Conv_8 (up y + x0))
    levels = (clip(guided_filter(guide=x, target=y)) + 1) * 127.5

The authors' graph then casts to uint8, which truncates: results lie in 0..254. Layers keep their TensorFlow names, and
take their widths from the weights, so that a pruned checkpoint loads as any other.

Source: DCT-Net (Men et al., SIGGRAPH 2022), the published frozen graphs cartoon_h.pb and cartoon_bg.pb.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cameo.errors import CheckpointError, PhotoError

Variables = Mapping[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]

SCOPE = "generator"  # the variable scope of the frozen graph
BLOCKS = tuple(f"block_{i}" for i in range(4))
LAYERS = (
    *(f"Conv{suffix}" for suffix in ("", "_1", "_2", "_3", "_4")),
    *(f"{block}/{conv}" for block in BLOCKS for conv in ("conv1", "conv2")),
    *(f"Conv_{i}" for i in range(5, 10)),
)
DOWNSAMPLING = ("Conv_1", "Conv_3")
SIZE_MULTIPLE = 4  # two halvings, each of which must be undone exactly
LEAKY_SLOPE = 0.2
GUIDED_FILTER_EPS = 1e-2
CLIP = 0.999999  # keeps (1 + 1) * 127.5 below 255

_SUFFIXES = {"weight": "weights", "bias": "biases"}  # torch → TensorFlow


class Generator(nn.Module):
    """The generator in its faithful form."""

    def __init__(self, shapes: Shapes) -> None:
        """Builds the layers; `shapes` maps TensorFlow variable names to HWIO kernel and bias shapes."""
        super().__init__()
        self.layers = nn.ModuleDict({name: _convolution(name, shapes) for name in LAYERS})

    @classmethod
    def from_variables(cls, variables: Variables) -> "Generator":
        """The generator with the weights of a frozen graph, given by TensorFlow variable name."""
        _check_names(variables)
        network = cls({name: array.shape for name, array in variables.items()})
        network.load_state_dict(to_state_dict(variables))
        return network

    def forward(self, image: Tensor) -> Tensor:
        """Levels before the cast to uint8, float32 `(N, 3, H, W)` BGR in [0, 255), of an image of the same form.

        Raises:
            PhotoError: H or W is not a multiple of 4.
        """
        height, width = image.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise PhotoError(
                f"DCT-Net needs a height and width that are multiples of {SIZE_MULTIPLE}, got {height}x{width}: pad the photo."
            )
        x = image / 127.5 - 1
        filtered = guided_filter(guide=x, target=self.unet(x).float())
        return (filtered.clamp(-CLIP, CLIP) + 1) * 127.5

    def unet(self, x: Tensor) -> Tensor:
        """The drawing before the guided filter, float32 `(N, 3, H, W)` BGR around [-1, 1], of x in [-1, 1]."""
        x0 = self._activated("Conv", x)
        x1 = self._activated("Conv_2", self._activated("Conv_1", x0))
        y = self._activated("Conv_4", self._activated("Conv_3", x1))
        for block in BLOCKS:
            y = y + self.layers[f"{block}/conv2"](self._activated(f"{block}/conv1", y))
        y = self._activated("Conv_5", y)
        y = self._activated("Conv_7", self._activated("Conv_6", upsample(y) + x1))
        y = self._activated("Conv_8", upsample(y) + x0)
        result: Tensor = self.layers["Conv_9"](y)
        return result

    def _activated(self, name: str, x: Tensor) -> Tensor:
        if name in DOWNSAMPLING:  # TensorFlow's SAME pads an even size by 0 before and 1 after
            x = functional.pad(x, (0, 1, 0, 1))
        return functional.leaky_relu(self.layers[name](x), LEAKY_SLOPE)


def upsample(x: Tensor) -> Tensor:
    """x at twice the size, `(N, C, 2H, 2W)`: output pixel i samples input i / 2, clamped at the far edge.

    This is TensorFlow 1's ResizeBilinear (align_corners and half_pixel_centers both off), which torch lacks: even
    pixels are copies and odd pixels the mean of two neighbours.
    """
    for axis in (2, 3):
        last = x.narrow(axis, x.shape[axis] - 1, 1)
        following = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], axis)
        x = torch.stack([x, (x + following) / 2], axis + 1).flatten(axis, axis + 1)
    return x


def guided_filter(guide: Tensor, target: Tensor) -> Tensor:
    """The target as a locally linear function of the guide (He et al., ECCV 2010) with radius 1, `(N, 3, H, W)`."""
    count = _box(torch.ones_like(guide[:1, :1]))
    mean_guide, mean_target = _box(guide) / count, _box(target) / count
    covariance = _box(guide * target) / count - mean_guide * mean_target
    variance = _box(guide * guide) / count - mean_guide * mean_guide
    slope = covariance / (variance + GUIDED_FILTER_EPS)
    offset = mean_target - slope * mean_guide
    return _box(slope) / count * guide + _box(offset) / count


def to_variable_name(key: str) -> str:
    """The TensorFlow name of a state-dict key: `layers.Conv_1.weight` → `generator/Conv_1/weights`."""
    _, layer, parameter = key.split(".")
    return f"{SCOPE}/{layer}/{_SUFFIXES[parameter]}"


def to_variables(state_dict: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """TensorFlow variables (kernels HWIO) of a state dict (kernels OIHW)."""
    return {to_variable_name(key): _to_hwio(tensor).float().numpy() for key, tensor in state_dict.items()}


def to_state_dict(variables: Variables) -> dict[str, Tensor]:
    """State dict (kernels OIHW) of TensorFlow variables (kernels HWIO).

    Raises:
        CheckpointError: a variable is missing, or one is not of this network.
    """
    _check_names(variables)
    keys = [f"layers.{layer}.{parameter}" for layer in LAYERS for parameter in _SUFFIXES]
    return {key: _to_oihw(torch.tensor(variables[to_variable_name(key)])) for key in keys}


def _check_names(variables: Mapping[str, object]) -> None:
    expected = {f"{SCOPE}/{layer}/{suffix}" for layer in LAYERS for suffix in _SUFFIXES.values()}
    missing, unknown = sorted(expected - set(variables)), sorted(set(variables) - expected)
    if missing or unknown:
        raise CheckpointError(
            f"These are not the weights of a DCT-Net generator: missing {missing[:3]} and not expected {unknown[:3]}; "
            "give a frozen graph such as cartoon_h.pb."
        )


def _convolution(name: str, shapes: Shapes) -> nn.Conv2d:
    size, _, inputs, outputs = shapes[f"{SCOPE}/{name}/weights"]
    stride, padding = (2, 0) if name in DOWNSAMPLING else (1, size // 2)
    return nn.Conv2d(inputs, outputs, size, stride, padding)


def _box(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1)  # zeros outside count, as in the original


def _to_hwio(tensor: Tensor) -> Tensor:
    return tensor.permute(2, 3, 1, 0).contiguous() if tensor.ndim == 4 else tensor


def _to_oihw(tensor: Tensor) -> Tensor:
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor
