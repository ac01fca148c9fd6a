"""The DCT-Net generator as its authors ship it: a frozen TensorFlow 1 graph, built from plain arrays.

The graph has the operations, names and topology that the authors' export gives (232 nodes; TensorFlow 1.14 and older
write `Add` for `AddV2`), so whatever reads it reads theirs: `input_image` float32 `(H, W, 3)` BGR in [0, 255] →
`output_image` uint8 `(H, W, 3)` BGR in [0, 254]. Each weight is a constant `generator/<layer>/weights` behind an
identity `.../read`, which is what freezing leaves of a variable.

A student's layers may be depthwise-separable: `depthwise_weights` and `pointwise_weights` instead of `weights`, as
TensorFlow 1 named them (slim.separable_conv2d).

Source: DCT-Net (Men et al., SIGGRAPH 2022), the published frozen graphs cartoon_h.pb and cartoon_bg.pb.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cameo.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    import tensorflow

Variables = Mapping[str, NDArray[np.float32]]

INPUT, OUTPUT, SCOPE = "input_image", "output_image", "generator"
BLOCKS = tuple(f"block_{i}" for i in range(4))
# Kernel size, input and output channels of every layer, as published.
LAYERS = {
    "Conv": (7, 3, 32),
    "Conv_1": (3, 32, 32),
    "Conv_2": (3, 32, 64),
    "Conv_3": (3, 64, 64),
    "Conv_4": (3, 64, 128),
    **{f"{block}/{conv}": (3, 128, 128) for block in BLOCKS for conv in ("conv1", "conv2")},
    "Conv_5": (3, 128, 64),
    "Conv_6": (3, 64, 64),
    "Conv_7": (3, 64, 32),
    "Conv_8": (3, 32, 32),
    "Conv_9": (7, 32, 3),
}
SEPARABLE_LAYERS = tuple(name for name, (size, _, _) in LAYERS.items() if size == 3)
DOWNSAMPLING = ("Conv_1", "Conv_3")  # stride 2
LEAKY_SLOPE = 0.2
GUIDED_FILTER_EPS = 1e-2
CLIP = 0.999999  # keeps (1 + 1) * 127.5 below 255


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the 36 variables of the published graphs by name: kernels HWIO, biases `(O,)`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (size, inputs, outputs) in LAYERS.items():
        shapes[f"{SCOPE}/{layer}/weights"] = (size, size, inputs, outputs)
        shapes[f"{SCOPE}/{layer}/biases"] = (outputs,)
    return shapes


def separable_layers(names: Iterable[str]) -> set[str]:
    """The layers whose variables, given by name, are those of a depthwise-separable convolution."""
    known = set(names)
    return {layer for layer in SEPARABLE_LAYERS if f"{SCOPE}/{layer}/depthwise_weights" in known}


def check_names(names: Iterable[str]) -> None:
    """Raises CheckpointError unless the names are those of the generator's 36 variables, or of a student's."""
    names = set(names)
    expected = set(published_shapes())
    for layer in separable_layers(names):
        expected -= {f"{SCOPE}/{layer}/weights"}
        expected |= {f"{SCOPE}/{layer}/{kind}_weights" for kind in ("depthwise", "pointwise")}
    missing, unknown = expected - names, names - expected
    if missing or unknown:
        raise CheckpointError(
            "These are not the weights of a DCT-Net generator, which has 36 variables: "
            f"{len(missing)} are missing {sorted(missing)[:2]} and {len(unknown)} are unknown {sorted(unknown)[:2]}; "
            "give a frozen graph such as cartoon_h.pb."
        )


def write_frozen_graph(variables: Variables, path: Path) -> Path:
    """The path, which now holds the frozen graph with these variables (moved into place when it is whole)."""
    graph_def = build_graph(variables).as_graph_def()
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(graph_def.SerializeToString(deterministic=True))
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"Cannot write {path}: {error}; check the folder's permission and free space.") from error
    return path


def read_variables(path: Path) -> dict[str, NDArray[np.float32]]:
    """The variables in a frozen graph, by name: kernels float32 HWIO, biases float32 `(O,)`.

    Raises:
        CheckpointError: the file is no frozen graph, or one of another network.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise CheckpointError(f"Cannot read {path} as a frozen graph: {error}; download it again.") from error
    variables = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in graph_def.node
        if node.op == "Const" and node.name.endswith(("weights", "/biases"))
    }
    check_names(variables)
    return variables


def build_graph(variables: Variables) -> "tensorflow.Graph":
    """The generator as a TensorFlow graph with its weights as constants.

    Raises:
        CheckpointError: the variables are not those of this network.
    """
    import tensorflow as tf

    check_names(variables)
    graph = tf.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder(tf.float32, [None, None, 3], name=INPUT)
        guide = image[:, :, :][None] / 127.5 - 1.0
        with tf.name_scope(SCOPE):
            target = _unet(guide, variables)
        filtered = _guided_filter(guide, target)[0]
        levels = (tf.clip_by_value(filtered, -CLIP, CLIP) + 1.0) * 127.5
        tf.cast(levels, tf.uint8, name=OUTPUT)
    return graph


def _unet(guide: Any, variables: Variables) -> Any:
    import tensorflow as tf

    def activated(name: str, x: Any) -> Any:
        return _leaky_relu(_convolution(name, x, variables))

    x0 = activated("Conv", guide)
    x1 = activated("Conv_2", activated("Conv_1", x0))
    y = activated("Conv_4", activated("Conv_3", x1))
    for block in BLOCKS:
        with tf.name_scope(block):
            y = _convolution(f"{block}/conv2", activated(f"{block}/conv1", y), variables) + y
    y = activated("Conv_5", y)
    y = activated("Conv_7", activated("Conv_6", _upsample(y) + x1))
    y = activated("Conv_8", _upsample(y) + x0)
    return _convolution("Conv_9", y, variables)


def _convolution(name: str, x: Any, variables: Variables) -> Any:
    import tensorflow as tf

    stride = 2 if name in DOWNSAMPLING else 1
    steps = [1, stride, stride, 1]
    with tf.name_scope(f"{SCOPE}/{name}/") as scope:  # the last slash makes the scope absolute

        def variable(kind: str) -> Any:
            return _frozen_variable(f"{scope}{kind}", variables)

        if f"{scope}depthwise_weights" in variables:
            x = tf.raw_ops.DepthwiseConv2dNative(
                input=x, filter=variable("depthwise_weights"), strides=steps, padding="SAME", name="depthwise"
            )
            y = tf.nn.conv2d(x, variable("pointwise_weights"), strides=1, padding="SAME", name="Conv2D")
        else:
            y = tf.nn.conv2d(x, variable("weights"), strides=steps, padding="SAME", name="Conv2D")
        return tf.nn.bias_add(y, variable("biases"), name="BiasAdd")


def _frozen_variable(name: str, variables: Variables) -> Any:
    import tensorflow as tf

    constant = tf.constant(variables[name], tf.float32, name=f"{name}/")
    with constant.graph.colocate_with(constant.op):
        return tf.identity(constant, name=f"{name}/read/")


def _leaky_relu(x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.leaky_relu(x, LEAKY_SLOPE, name="LeakyRelu")


def _upsample(x: Any) -> Any:
    import tensorflow as tf

    size = [tf.shape(x)[1] * 2, tf.shape(x)[2] * 2]
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=False, half_pixel_centers=False)


def _guided_filter(guide: Any, target: Any) -> Any:
    import tensorflow as tf

    shape = tf.shape(guide)
    count = _box(tf.ones([1, shape[1], shape[2], 1]), channels=1)
    mean_guide, mean_target = _box(guide) / count, _box(target) / count
    covariance = _box(guide * target) / count - mean_guide * mean_target
    variance = _box(guide * guide) / count - mean_guide * mean_guide
    slope = covariance / (variance + GUIDED_FILTER_EPS)
    offset = mean_target - slope * mean_guide
    return _box(slope) / count * guide + _box(offset) / count


def _box(x: Any, channels: int = 3) -> Any:
    import tensorflow as tf

    with tf.name_scope("depthwise") as scope:
        mean = tf.constant(np.full((3, 3, channels, 1), 1 / 9, np.float32), name="filter_in")
        return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=mean, strides=[1, 1, 1, 1], padding="SAME", name=scope)
