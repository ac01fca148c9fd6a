"""The DCT-Net generator in torch: a U-Net whose output a guided filter ties to the edges of the photo.

    x  = image / 127.5 - 1                                            float32 BGR in [-1, 1]
    x0 = f(Conv x)          x1 = f(Conv_2 f(Conv_1 x0))               f = leaky ReLU, slope 0.2
    y  = f(Conv_4 f(Conv_3 x1)),  4 times y + conv2 f(conv1 y),  f(Conv_5 y)
    y  = f(Conv_7 f(Conv_6 (up y + x1)))
    y  = Conv_9 f(Conv_8 (up y + x0))
    levels = (clip(guided_filter(guide=x, target=y)) + 1) * 127.5

The authors' graph then casts to uint8, which truncates: results lie in 0..254. Layers keep their TensorFlow names, and
take their widths from the weights, so that a pruned checkpoint loads as any other; so does a student's, whose 3x3
layers are depthwise-separable.

Source: the frozen graphs described in dctnet_frozen.py.
"""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cameo.errors import PhotoError
from compress.separable import nearest_separable
from exporters.dctnet.frozen_form import (
    BLOCKS,
    CLIP,
    DOWNSAMPLING,
    GUIDED_FILTER_EPS,
    LAYERS,
    LEAKY_SLOPE,
    SCOPE,
    SEPARABLE_LAYERS,
    Variables,
    check_names,
    separable_layers,
)

SIZE_MULTIPLE = 4  # the size is halved twice, and doubling must give it back exactly

# torch's name of a parameter: TensorFlow's, and the order of axes that makes it TensorFlow's
_DENSE = {"weight": ("weights", (2, 3, 1, 0)), "bias": ("biases", (0,))}
_SEPARABLE = {
    "depthwise.weight": ("depthwise_weights", (2, 3, 0, 1)),
    "pointwise.weight": ("pointwise_weights", (2, 3, 1, 0)),
    "pointwise.bias": ("biases", (0,)),
}


class Generator(nn.Module):
    """The generator in its faithful form."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Takes the shapes of the TensorFlow variables by name: kernels HWIO, biases `(O,)`."""
        super().__init__()
        self.layers = nn.ModuleDict({name: _convolution(name, shapes) for name in LAYERS})

    @classmethod
    def from_variables(cls, variables: Variables) -> "Generator":
        """The generator with the weights of a frozen graph, given by TensorFlow variable name.

        Raises:
            CheckpointError: the variables are not those of this network.
        """
        state_dict = to_state_dict(variables)
        network = cls({name: array.shape for name, array in variables.items()})
        network.load_state_dict(state_dict)
        return network

    def forward(self, image: Tensor) -> Tensor:
        """Levels before the cast to uint8, float32 `(N, 3, H, W)` BGR in [0, 255), of an image of the same form.

        Raises:
            PhotoError: H or W is not a multiple of 4.
        """
        height, width = image.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise PhotoError(
                f"DCT-Net needs a height and a width that are multiples of {SIZE_MULTIPLE}, got {height}x{width}: "
                "pad the photo."
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
        drawing: Tensor = self.layers["Conv_9"](y)
        return drawing

    def _activated(self, name: str, x: Tensor) -> Tensor:
        if name in DOWNSAMPLING:  # TensorFlow's SAME pads an even size by 0 before and 1 after
            x = functional.pad(x, (0, 1, 0, 1))
        return functional.leaky_relu(self.layers[name](x), LEAKY_SLOPE)


def upsample(x: Tensor) -> Tensor:
    """x at twice the size, `(N, C, 2H, 2W)`: output pixel i samples input i / 2, clamped at the far edge.

    This is TensorFlow 1's ResizeBilinear (align_corners and half_pixel_centers both off), which torch lacks: even
    pixels are copies, odd pixels the mean of two neighbours.
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


def to_variables(state_dict: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """TensorFlow variables (kernels HWIO) of a state dict (kernels OIHW)."""
    variables = {}
    for key, tensor in state_dict.items():
        _, layer, parameter = key.split(".", 2)
        name, axes = (_DENSE | _SEPARABLE)[parameter]
        variables[f"{SCOPE}/{layer}/{name}"] = np.ascontiguousarray(tensor.permute(axes).float().numpy())
    return variables


def to_state_dict(variables: Variables) -> dict[str, Tensor]:
    """State dict (kernels OIHW) of TensorFlow variables (kernels HWIO).

    Raises:
        CheckpointError: the variables are not those of this network.
    """
    check_names(variables)
    separable = separable_layers(variables)
    return {
        f"layers.{layer}.{parameter}": torch.tensor(variables[f"{SCOPE}/{layer}/{name}"].transpose(np.argsort(axes)))
        for layer in LAYERS
        for parameter, (name, axes) in (_SEPARABLE if layer in separable else _DENSE).items()
    }


def separated(network: Generator) -> Generator:
    """The generator with depthwise-separable convolutions in place of its dense 3x3 ones, the nearest to them."""
    state = network.state_dict()
    for layer in SEPARABLE_LAYERS:
        depthwise, pointwise = nearest_separable(state.pop(f"layers.{layer}.weight"))
        bias = state.pop(f"layers.{layer}.bias")
        state |= {
            f"layers.{layer}.depthwise.weight": depthwise,
            f"layers.{layer}.pointwise.weight": pointwise,
            f"layers.{layer}.pointwise.bias": bias,
        }
    return Generator.from_variables(to_variables(state))


def _convolution(name: str, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    stride = 2 if name in DOWNSAMPLING else 1
    if separable_layers(shapes) & {name}:
        size, _, inputs, _ = shapes[f"{SCOPE}/{name}/depthwise_weights"]
        outputs = shapes[f"{SCOPE}/{name}/pointwise_weights"][3]
        depthwise = nn.Conv2d(inputs, inputs, size, stride, _padding(size, stride), groups=inputs, bias=False)
        pointwise = nn.Conv2d(inputs, outputs, 1)
        return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
    size, _, inputs, outputs = shapes[f"{SCOPE}/{name}/weights"]
    return nn.Conv2d(inputs, outputs, size, stride, _padding(size, stride))


def _padding(size: int, stride: int) -> int:
    return 0 if stride == 2 else size // 2  # what is halved is padded beforehand, on two sides only


def _box(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1)  # the zeros outside count, as in the original
