"""Weights, inputs and fixtures as pure functions of a name and a shape, so that no checkpoint has to be stored.

The stream of a name is PCG64 seeded with the first eight bytes (little endian) of sha256(salt + name). Whoever agrees
on names and shapes gets the same float32 numbers. `fill_state_dict` chooses a distribution by what a key means, so
that activations of the filled network stay in a sane range.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = Sequence[int]
N_SAMPLES = 4096
STREAM_SHA256 = "560e40ffe0ff9e0dcfa1c337b6dbb7be48301a3424fab9953e48a1b45b5488c4"


def generator(name: str, salt: str = "") -> np.random.Generator:
    """The random generator that belongs to a name."""
    digest = hashlib.sha256((salt + name).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))


def normal(name: str, shape: Shape, std: float = 1.0, mean: float = 0.0, salt: str = "") -> Array:
    """Gaussian float32 of the shape."""
    values = np.asarray(generator(name, salt).standard_normal(tuple(shape), dtype=np.float32))
    if std != 1.0:
        values *= np.float32(std)
    if mean != 0.0:
        values += np.float32(mean)
    return values


def uniform(name: str, shape: Shape, low: float = -1.0, high: float = 1.0, salt: str = "") -> Array:
    """Evenly distributed float32 of the shape in [low, high)."""
    values = generator(name, salt).random(tuple(shape), dtype=np.float32)
    return np.asarray(np.float32(low) + values * np.float32(high - low), np.float32)


def integers(name: str, shape: Shape, low: int, high: int, salt: str = "") -> Array:
    """Evenly distributed int64 of the shape, low <= value < high."""
    return generator(name, salt).integers(low, high, size=tuple(shape), dtype=np.int64)


def image_u8(name: str, height: int, width: int, channels: int = 3, salt: str = "") -> Array:
    """A noise photo, uint8 `(H, W, C)`."""
    return integers(name, (height, width, channels), 0, 256, salt).astype(np.uint8)


def smooth_u8(name: str, height: int, width: int, channels: int = 3, salt: str = "") -> Array:
    """A smooth image, uint8 `(H, W, C)`: six plane waves and an offset per channel."""
    rng = generator(name, salt)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    image = np.zeros((height, width, channels))
    for channel in range(channels):
        for _ in range(6):
            cycles_y, cycles_x = rng.uniform(-4, 4), rng.uniform(-4, 4)
            phase, amplitude = rng.uniform(0, 6.283), rng.uniform(8, 40)
            turns = cycles_y * rows / height + cycles_x * columns / width
            image[..., channel] += amplitude * np.sin(2 * math.pi * turns + phase)
        image[..., channel] += rng.uniform(90, 165)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


# What a key means: (pattern, rank or None for any, kind, gain); the first match decides.
_RULES: list[tuple[re.Pattern[str], int | None, str, float]] = [
    (re.compile(pattern), rank, kind, gain)
    for pattern, rank, kind, gain in [
        # GPEN: StyleGAN2 with equalised learning rate, stored weights are ~N(0, 1)
        (r"(^|\.)style\.\d+\.weight$", 2, "normal", 100.0),
        (r"(^|\.)style\.\d+\.bias$", 1, "normal", 10.0),
        (r"\.modulation\.weight$", 2, "normal", 1.0),
        (r"\.modulation\.bias$", 1, "around_one", 0.1),
        (r"to_rgb(1|s\.\d+)\.conv\.weight$", 5, "normal", 0.2),
        (r"\.conv\.weight$", 5, "normal", 1.0),
        (r"to_rgb(1|s\.\d+)\.bias$", 4, "normal", 0.05),
        (r"(^|\.)input\.input$", 4, "normal", 1.0),
        (r"\.noise\.weight$", 1, "noise", 0.2),
        (r"\.activate\.bias$", 1, "normal", 0.1),
        (r"^ecd\d+\.0\.0\.kernel$", 2, "fir", 1.0),
        (r"(blur|upsample)\.kernel$", 2, "fir", 4.0),
        (r"^ecd\d+\.0\.\d+\.weight$", 4, "normal", 1.0),
        (r"^ecd\d+\.0\.\d+\.bias$", 1, "normal", 0.1),
        (r"^final_linear\.0\.weight$", 2, "normal", 1.0),
        (r"^final_linear\.0\.bias$", 1, "normal", 0.1),
        # RetinaFace: its input is a photo in 0..255 minus the mean
        (r"^body\.conv1\.weight$", 4, "he", 0.015),
        (r"^ClassHead\.\d+\.conv1x1\.weight$", 4, "lecun", 0.8),
        (r"^ClassHead\.\d+\.conv1x1\.bias$", 1, "face_class_bias", 0.6),
        (r"^(BboxHead|LandmarkHead)\.\d+\.conv1x1\.weight$", 4, "lecun", 0.3),
        # last normalisation of residual branches, so that deep stacks do not grow
        (r"(^|\.)layer\d+\.\d+\.bn3\.weight$", 1, "bn_weight", 0.25),
        (r"\.res_layer\.4\.weight$", 1, "bn_weight", 0.25),
        (r"\.conv2\.norm\.norm\.weight$", 1, "bn_weight", 0.3),
        # RRDBNet: output near [0, 1]
        (r"^conv_last\.weight$", 4, "lecun", 0.004),
        (r"^conv_last\.bias$", 1, "half", 0.05),
        # face reconstruction heads: identity, expression, texture, angle, gamma, xy, z
        (r"^final_layers\.[012]\.weight$", 4, "lecun", 0.35),
        (r"^final_layers\.3\.weight$", 4, "lecun", 0.08),
        (r"^final_layers\.4\.weight$", 4, "lecun", 0.2),
        (r"^final_layers\.[56]\.weight$", 4, "lecun", 0.08),
        # face fusion generator
        (r"(^|\.)deconv\d+\.deconv\.weight$", 4, "transposed_stride_2", 1.0),
        (r"(^|\.)up1\.weight$", 4, "normal", 1.0),
        (r"(^|\.)(gamma)$", 0, "scalar_half", 1.0),
        (r"(^|\.)down\.weight$", 4, "antialias", 0.25),
        (r"(^|\.)fc[12]\.weight$", 2, "normal", 0.7),
        (r"AAD\d\.conv[12]\.weight$", 4, "he", 0.5),
        (r"AADBlk8\.AAD\d\.conv_h\.weight$", 4, "he", 0.5),
        (r"(^|\.)mask\.weight$", 4, "he", 6.0),
        # TensorFlow variables, kernels are HWIO
        (r"generator/(.*/)?Conv_9/weights$", 4, "tf_he", 0.12),
        (r"block_\d/conv2/weights$", 4, "tf_he", 0.3),
        (r"^init_conv1/weights$", 4, "tf_he", 0.015),
        (r"_reg_out/weights$", 4, "tf_he", 0.5),
        (r"level1_cla_out/weights$", 4, "tf_he", 0.45),
        (r"level1_cla_out/biases$", 1, "face_class_bias", 3.6),
        (r"level2_cla_out/weights$", 4, "tf_he", 0.7),
        (r"level2_cla_out/biases$", 1, "face_class_bias", 1.2),
        (r"level3_cla_out/weights$", 4, "tf_he", 0.7),
        (r"level3_cla_out/biases$", 1, "face_class_bias", 1.2),
        (r"^logits/weights$", 4, "tf_he", 0.02),
        (r"^logits/biases$", 1, "landmarks68_bias", 0.004),
    ]
]
_TENSORFLOW_KINDS = {
    "weights": "tf_he",
    "kernel": "tf_he",
    "pointwise_weights": "tf_he",
    "depthwise_weights": "tf_depthwise",
    "biases": "bias",
    "bias": "bias",
    "gamma": "bn_weight",
    "beta": "bn_bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def kind_of(key: str, shape: Shape, siblings: Collection[str] = ()) -> tuple[str, float]:
    """Kind and gain of a key; `siblings`, the keys of the whole dict, tell a BatchNorm scale from a PReLU slope."""
    rank = len(shape)
    for pattern, wanted_rank, kind, gain in _RULES:
        if wanted_rank in (None, rank) and pattern.search(key):
            return kind, gain
    if "/" in key:
        return _TENSORFLOW_KINDS[key.rsplit("/", 1)[1]], 1.0
    return _torch_kind(key, rank, siblings), 1.0


def _torch_kind(key: str, rank: int, siblings: Collection[str]) -> str:
    module, _, last = key.rpartition(".")
    normalised = f"{module}.running_mean" in siblings
    if last == "bias":
        return "bn_bias" if normalised else "bias"
    if last == "weight" and rank == 1:
        return "bn_weight" if normalised or not siblings else "prelu"
    if last == "weight":
        return "lecun" if rank == 2 else "he"
    others = {"num_batches_tracked": "counter", "weight_bar": "he"}
    others |= {name: name for name in ("running_mean", "running_var", "weight_u", "weight_v")}
    if last not in others:
        raise KeyError(f"no rule for {key} of rank {rank}")
    return others[last]


def fir_kernel(gain: float = 1.0) -> Array:
    """The 4x4 kernel [1, 3, 3, 1] x [1, 3, 3, 1] with sum `gain`, float32."""
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32)
    return (kernel / kernel.sum() * np.float32(gain)).astype(np.float32)


def antialias_kernel(shape: Shape, scale: float) -> Array:
    """The depthwise Gaussian that precedes shrinking by `scale`, float32 `(C, 1, k, k)`."""
    sigma = (1.0 / scale - 1.0) / 2.0
    size = shape[-1]
    if size != 2 * round(sigma * 4) + 1:
        raise ValueError(f"a kernel of {size} does not belong to scale {scale}")
    offsets = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2.0)
    line = np.exp(-(offsets**2) / np.float32(2 * sigma**2))
    kernel = np.outer(line, line).astype(np.float32)
    return np.broadcast_to(kernel / kernel.sum(), tuple(shape)).astype(np.float32).copy()


def fill(
    key: str,
    shape: Shape,
    kind: str | None = None,
    gain: float | None = None,
    salt: str = "",
    siblings: Collection[str] = (),
) -> Array:
    """The weight called `key`; kind and gain default to `kind_of` the key."""
    shape = tuple(int(length) for length in shape)
    if kind is None:
        kind, usual_gain = kind_of(key, shape, siblings)
        gain = usual_gain if gain is None else gain
    gain = 1.0 if gain is None else gain
    if kind in _GAUSSIANS:
        std, mean = _GAUSSIANS[kind]
        return normal(key, shape, gain if std is None else std, mean, salt)
    if kind in _FAN_INS:
        numerator, fan_in = _FAN_INS[kind]
        return normal(key, shape, gain * math.sqrt(numerator / fan_in(shape)), 0.0, salt)
    return _special(key, shape, kind, gain, salt)


# kind: (std, or None for the gain; mean)
_GAUSSIANS: dict[str, tuple[float | None, float]] = {
    "normal": (None, 0.0),
    "around_one": (None, 1.0),
    "noise": (None, 0.7),
    "half": (None, 0.5),
    "scalar_half": (0.05, 0.5),
    "bn_bias": (0.05, 0.0),
    "running_mean": (0.1, 0.0),
    "prelu": (0.05, 0.25),
}
# kind: (numerator, fan-in of the shape); 1.04 = 1 + 0.2**2, He's correction for LeakyReLU
_FAN_INS: dict[str, tuple[float, Any]] = {
    "he": (2.0, lambda shape: 1.04 * np.prod(shape[1:])),
    "lecun": (1.0, lambda shape: np.prod(shape[1:])),
    "transposed_stride_2": (2.0, lambda shape: shape[0] * 4),
    "tf_he": (2.0, lambda shape: 1.04 * np.prod(shape[:3])),
    "tf_depthwise": (1.0, lambda shape: np.prod(shape[:2])),
}


def _special(key: str, shape: tuple[int, ...], kind: str, gain: float, salt: str) -> Array:
    match kind:
        case "bias":
            return normal(key, shape, 0.05 * gain, 0.0, salt)
        case "bn_weight":
            return normal(key, shape, 0.1, 1.0, salt) * np.float32(gain)
        case "running_var":
            return uniform(key, shape, 0.5, 1.5, salt)
        case "counter":
            return np.full(shape, 1, np.int64)
        case "fir":
            return fir_kernel(gain)
        case "antialias":
            return antialias_kernel(shape, gain)
        case "face_class_bias":  # (background, face) pairs
            pairs = normal(key, shape, 0.05, 0.0, salt).reshape(-1, 2)
            return (pairs + np.array([gain, -gain], np.float32)).reshape(shape).astype(np.float32)
        case "landmarks68_bias":  # 136 coordinates, 3 angles, 4 state logits
            bias = normal(key, shape, gain, 0.0, salt)
            bias[:136] += landmarks68(1.0, cx=0.5, cy=0.5, size=0.70).reshape(-1)
            return bias
    raise KeyError(f"no kind {kind}")


def fill_state_dict(shapes: Mapping[str, Shape], salt: str = "") -> dict[str, Array]:
    """The weights of a whole network, in the order of `shapes`.

    Spectral-norm vectors come from three power iterations: not converged, so that a recomputed norm is detected.
    """
    filled: dict[str, Array] = {}
    for key, shape in shapes.items():
        if not key.endswith(("weight_u", "weight_v")):
            filled[key] = fill(key, shape, salt=salt, siblings=shapes.keys())
    for key, shape in shapes.items():
        if key.endswith("weight_u"):
            module = key.removesuffix("weight_u")
            u, v = _power_iterations(filled[f"{module}weight_bar"], key, salt)
            filled[key] = u.reshape(shape)
            filled[f"{module}weight_v"] = v.reshape(shapes[f"{module}weight_v"])
    return {key: filled[key] for key in shapes}


def _power_iterations(weight: Array, key: str, salt: str, iterations: int = 3) -> tuple[Array, Array]:
    matrix = weight.astype(np.float64).reshape(weight.shape[0], -1)
    u = normal(key, matrix.shape[:1], salt=salt).astype(np.float64)
    u /= np.linalg.norm(u)
    for _ in range(iterations):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u.astype(np.float32), v.astype(np.float32)


def landmarks68(scale: float, cx: float, cy: float, size: float) -> Array:
    """A stylised face, float32 `(68, 2)` (x, y) in iBUG order; `size` is its width, everything times `scale`."""
    points = np.zeros((68, 2))
    for i in range(17):  # jaw
        angle = math.pi * i / 16.0
        points[i] = (-0.5 * math.cos(angle), -0.12 + 0.66 * math.sin(angle))
    for i in range(5):  # brows, underside of the nose
        arch = math.sin(math.pi * i / 4)
        points[17 + i] = (-0.40 + 0.075 * i, -0.24 - 0.03 * arch)
        points[22 + i] = (0.10 + 0.075 * i, -0.24 - 0.03 * arch)
        points[31 + i] = (-0.09 + 0.045 * i, 0.19 + 0.015 * arch)
    for i in range(4):  # bridge of the nose
        points[27 + i] = (0.0, -0.13 + 0.085 * i)
    for i, (x, y) in enumerate([(-1, 0), (-0.45, -0.55), (0.45, -0.55), (1, 0), (0.45, 0.55), (-0.45, 0.55)]):  # eyes
        points[36 + i] = (-0.225 + 0.075 * x, -0.11 + 0.05 * y)
        points[42 + i] = (0.225 + 0.075 * x, -0.11 + 0.05 * y)
    for i in range(12):  # outer lips
        angle = math.pi * (1 - i / 6.0)
        points[48 + i] = (0.17 * math.cos(angle), 0.33 - 0.07 * math.sin(angle))
    for i in range(8):  # inner lips
        angle = math.pi * (1 - i / 4.0)
        points[60 + i] = (0.12 * math.cos(angle), 0.33 - 0.03 * math.sin(angle))
    return ((points * size + np.array([cx, cy])) * scale).astype(np.float32)


def sample_index(name: str, size: int, n: int = N_SAMPLES) -> Array:
    """The sorted flat positions at which a large array is compared, int64."""
    if size <= n:
        return np.arange(size)
    return np.sort(generator(f"sample/{name}").choice(size, n, replace=False))


def statistics(values: Array) -> Array:
    """Mean, standard deviation, minimum, maximum and root mean square, float64 `(5,)`."""
    values = np.asarray(values, np.float64)
    return np.array([values.mean(), values.std(), values.min(), values.max(), np.sqrt((values**2).mean())])


def compare(expected: Mapping[str, Array], name: str, got: Array) -> dict[str, float]:
    """How far `got` is from the packed array `name`: max_abs, mean_abs, rel_rms, stat_diff; full_max_abs if stored.

    Raises:
        AssertionError: the shapes differ.
    """
    got = np.asarray(got)
    shape = tuple(int(length) for length in expected[f"{name}/shape"])
    if got.shape != shape:
        raise AssertionError(f"{name}: expected shape {shape}, got {got.shape}")
    samples = expected[f"{name}/samp"].astype(np.float64)
    index = sample_index(name, got.size, samples.size if samples.size < got.size else N_SAMPLES)
    error = np.abs(got.reshape(-1)[index].astype(np.float64) - samples)
    rms = float(expected[f"{name}/stat"][4]) or 1.0
    report = {
        "max_abs": float(error.max(initial=0.0)),
        "mean_abs": float(error.mean()) if error.size else 0.0,
        "rel_rms": float(np.sqrt((error**2).mean()) / rms) if error.size else 0.0,
        "stat_diff": float(np.abs(statistics(got) - expected[f"{name}/stat"]).max()),
    }
    if f"{name}/full" in expected:
        full = expected[f"{name}/full"].astype(np.float64)
        report["full_max_abs"] = float(np.abs(got.astype(np.float64) - full).max())
    return report


def stream_sha256() -> str:
    """The hash of a piece of every random stream: numpy promises generators, not distributions, to stay the same."""
    digest = hashlib.sha256()
    digest.update(normal("selftest/n", (1000,)).tobytes())
    digest.update(uniform("selftest/u", (1000,)).tobytes())
    digest.update(integers("selftest/i", (1000,), 0, 256).tobytes())
    digest.update(sample_index("selftest", 10**6).astype(np.int64).tobytes())
    return digest.hexdigest()
