"""The cartoon generators of DCT-Net: a frozen TensorFlow graph, its weights in torch, and a frozen graph again.

The graph is taken to be the published network only after both have drawn the same picture: on reading and on writing,
TensorFlow runs the file and torch the module.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cameo.errors import CheckpointError
from compress.pruning.groups import ChannelGroup, Member, convolution_group
from compress.trainable import ONE_IMAGE, is_student
from exporters.checkpoints.frozen_graph import read_frozen_graph
from exporters.checkpoints.parts import no_parts

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS = ("dctnet-background", "dctnet-head")

_PROBE = (60, 44)  # height and width of the picture that both draw
_MOST_CHANGED = 1e-3  # of the uint8 values: sums in another order land on the other side of an integer that often

# Channels that are added to each other are one group: made by, read by.
_GROUPS = {
    "full": (("Conv", "Conv_7"), ("Conv_1", "Conv_8")),
    "full_last": (("Conv_8",), ("Conv_9",)),
    "half_first": (("Conv_1",), ("Conv_2",)),
    "half": (("Conv_2", "Conv_5"), ("Conv_3", "Conv_6")),
    "half_last": (("Conv_6",), ("Conv_7",)),
    "quarter_first": (("Conv_3",), ("Conv_4",)),
    "blocks": (
        ("Conv_4", *(f"block_{i}/conv2" for i in range(4))),
        ("Conv_5", *(f"block_{i}/conv1" for i in range(4))),
    ),
    **{f"block_{i}": ((f"block_{i}/conv1",), (f"block_{i}/conv2",)) for i in range(4)},
}


def trainable(network: str) -> TrainableDctnet:
    """The torch form of a generator."""
    return TrainableDctnet(network)


class TrainableDctnet:
    """A generator as torch module; see `compress.trainable.Trainable`."""

    inputs = ONE_IMAGE
    suffix = ".pb"
    side = None
    multiple = 4
    learning_rate = 1e-3

    def __init__(self, network: str) -> None:
        self._network = network

    def load(self, path: Path, part: str = "") -> nn.Module:
        """The generator of a frozen graph, proven to draw what the graph draws.

        Raises:
            CheckpointError: not a frozen graph, one of another network, or a `part` is asked for.
        """
        from exporters.dctnet.frozen_form import INPUT, OUTPUT, read_variables, separable_layers
        from exporters.dctnet.network import Generator

        if part:
            raise no_parts(self._network, part)
        read_frozen_graph(path, self._network, (INPUT, OUTPUT))
        variables = read_variables(path)
        if separable_layers(variables):
            raise is_student(path)
        network = Generator.from_variables(variables).eval()
        _check_same(path, network)
        return network

    def rebuild(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A generator with these weights, which give its widths."""
        from exporters.dctnet.network import Generator, to_variables

        return Generator.from_variables(to_variables(state)).eval()

    def separated(self, network: nn.Module) -> nn.Module:
        """The generator with depthwise-separable convolutions in place of its 3x3 ones, the nearest to them."""
        from exporters.dctnet.network import Generator, separated

        return separated(cast(Generator, network)).eval()

    def save(self, network: nn.Module, path: Path) -> None:
        """Write a frozen graph, proven to draw what the generator draws."""
        from exporters.dctnet.frozen_form import write_frozen_graph
        from exporters.dctnet.network import to_variables

        _check_same(write_frozen_graph(to_variables(network.state_dict()), path), network)

    def run(self, network: nn.Module, feeds: Mapping[str, Tensor]) -> Tensor:
        """The drawing of RGB levels, as RGB levels; the network itself works in BGR."""
        drawing: Tensor = network(feeds["image"].flip(1))
        return drawing.flip(1)

    def groups(self, network: nn.Module) -> tuple[ChannelGroup, ...]:
        """All channels between the photo and the drawing."""
        state = network.state_dict()
        return tuple(
            convolution_group(
                name,
                state[f"layers.{made_by[0]}.weight"].shape[0],
                [f"layers.{layer}" for layer in made_by],
                [f"layers.{layer}" for layer in read_by],
            )
            for name, (made_by, read_by) in _GROUPS.items()
        )

    def features(self, network: nn.Module) -> Mapping[str, tuple[Member, ...]]:
        """The outputs of all layers but the last."""
        return {f"layers.{layer}": (Member(name, 1),) for name, (made_by, _) in _GROUPS.items() for layer in made_by}


def _check_same(path: Path, network: nn.Module) -> None:
    """Raises CheckpointError unless the frozen graph draws what the torch generator draws."""
    import torch

    image = np.random.default_rng(0).integers(0, 256, (*_PROBE, 3), np.uint8)
    with torch.inference_mode():
        levels = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0).numpy()
    difference = np.abs(_draw(path, image).astype(int) - levels.astype(np.uint8))
    if difference.max() > 1 or (difference > 0).mean() > _MOST_CHANGED:
        raise CheckpointError(
            f"{path} has DCT-Net's weights but draws something else: expected the generator's picture on every pixel, "
            f"got a difference of up to {difference.max()} levels; only graphs as the authors publish them can be "
            "pruned, this one can still be exported"
        )


def _draw(path: Path, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow.compat.v1 as tf

    definition = tf.GraphDef()
    definition.ParseFromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        with tf.Session(graph=graph) as session:
            return np.asarray(session.run("output_image:0", {"input_image:0": image}), np.uint8)
