"""Depthwise-separable convolutions: one kernel per channel, then a 1x1 convolution that mixes channels.

A dense convolution of k x k pixels has k^2 I O multiplications per pixel, a separable one k^2 I + I O: an eighth to a
ninth for 3x3. The nearest one to a given convolution is, channel by channel, the best rank-1 approximation of its
weights, from which a student then learns the rest.

Source: Guo et al., Network Decoupling: From Regular to Depthwise Separable Convolutions, BMVC 2018; Howard et al.,
MobileNets, 2017.
"""

import torch
from torch import Tensor


def nearest_separable(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels `(I, 1, k, k)` of norm 1 and mixing weights `(O, I, 1, 1)` whose product comes nearest to `weight`.

    `weight` is `(O, I, k, k)`: output channels, input channels, kernel.
    """
    outputs, inputs, height, width = weight.shape
    by_input = weight.detach().double().transpose(0, 1).reshape(inputs, outputs, height * width)
    mixing, strength, kernels = torch.linalg.svd(by_input, full_matrices=False)
    pointwise = (mixing[..., 0] * strength[:, :1]).t()
    depthwise = kernels[:, 0]
    sign = torch.where(depthwise.sum(1) < 0, -1.0, 1.0)  # whatever sign SVD chose: mostly positive kernels
    pointwise, depthwise = pointwise * sign, depthwise * sign[:, None]
    return (
        depthwise.reshape(inputs, 1, height, width).to(weight.dtype),
        pointwise.reshape(outputs, inputs, 1, 1).to(weight.dtype),
    )
