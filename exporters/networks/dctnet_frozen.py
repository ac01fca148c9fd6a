"""The DCT-Net generator as its authors ship it: a frozen TensorFlow 1 graph, built from plain arrays.

The graph has the operations, names and topology of the published files (232 nodes), so whatever reads it reads theirs:
`input_image` float32 `(H, W, 3)` BGR in [0, 255] → `output_image` uint8 `(H, W, 3)` BGR in [0, 254]. Each weight is a
constant `generator/<layer>/weights` behind an identity `.../read`, which is what freezing leaves of a variable.
"""

import os
from collections.abc import Mapping
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
GUIDED_FILTER_EPS = 1e-2
LEAKY_SLOPE = 0.2
CLIP = 0.999999


def write_frozen_graph(variables: Variables, path: Path) -> Path:
    """The path, which now holds the frozen graph with these variables (moved into place when it is whole)."""
    import tensorflow as tf

    graph_def = build_graph(variables).as_graph_def()
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(graph_def, [OUTPUT])  # drops nodes that nothing reads
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(graph_def.SerializeToString(deterministic=True))
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"Cannot write {path}: {error}; check the folder's permission and free space.") from error
    return path


def read_variables(path: Path) -> dict[str, NDArray[np.float32]]:
    """The variables in a frozen graph, by name: kernels float32 HWIO, biases float32 `(O,)`."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise CheckpointError(f"Cannot read {path} as a frozen TensorFlow graph: {error}; download it again.") from error
    return {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in graph_def.node
        if node.op == "Const" and node.name.endswith(("/weights", "/biases"))
    }


def build_graph(variables: Variables) -> "tensorflow.Graph":
    """The generator as a TensorFlow graph with its weights as constants."""
    import tensorflow as tf

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


def _unet(x: Any, variables: Variables) -> Any:
    def layer(name: str, x: Any, stride: int = 1, linear: bool = False) -> Any:
        y = _convolution(name, x, variables, stride)
        return y if linear else _leaky_relu(y)

    x0 = layer("Conv", x)
    x1 = layer("Conv_2", layer("Conv_1", x0, stride=2))
    y = layer("Conv_4", layer("Conv_3", x1, stride=2))
    for block in BLOCKS:
        y = _residual_block(block, y, variables)
    y = layer("Conv_5", y)
    y = layer("Conv_7", layer("Conv_6", _upsample(y) + x1))
    y = layer("Conv_8", _upsample(y) + x0)
    return layer("Conv_9", y, linear=True)


def _residual_block(block: str, x: Any, variables: Variables) -> Any:
    import tensorflow as tf

    with tf.name_scope(block):
        y = _leaky_relu(_convolution(f"{block}/conv1", x, variables))
        return _convolution(f"{block}/conv2", y, variables) + x


def _convolution(name: str, x: Any, variables: Variables, stride: int = 1) -> Any:
    import tensorflow as tf

    prefix = f"{SCOPE}/{name}"
    with tf.name_scope(f"{prefix}/"):  # the slash makes the name absolute
        weights, biases = (_frozen_variable(f"{prefix}/{kind}", variables) for kind in ("weights", "biases"))
        y = tf.nn.conv2d(x, weights, strides=[1, stride, stride, 1], padding="SAME", name="Conv2D")
        return tf.nn.bias_add(y, biases, name="BiasAdd")


def _frozen_variable(name: str, variables: Variables) -> Any:
    import tensorflow as tf

    if name not in variables:
        raise CheckpointError(f"The DCT-Net generator needs the variable {name}, which is missing: give all 36.")
    constant = tf.constant(variables[name], tf.float32, name=name.rpartition("/")[2])
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

    mean = np.full((3, 3, channels, 1), 1 / 9, np.float32)
    return tf.compat.v1.nn.depthwise_conv2d(x, mean, strides=[1, 1, 1, 1], padding="SAME")
