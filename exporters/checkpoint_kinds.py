"""What a state dict looks like: known networks told by keys that only they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Shapes = Mapping[str, tuple[int, ...]]


def looks_like(shapes: Shapes) -> str:
    """A few words for the network that has these keys ("a GPEN generator of size 512")."""
    for _, keys, describe in _KINDS:
        if all(key in shapes for key in keys):
            return describe(shapes)
    examples = ", ".join(list(shapes)[:3])
    return f"a network unknown here ({len(shapes)} keys: {examples}, ...)" if shapes else "an empty state dict"


def fits(shapes: Shapes, network: str) -> bool:
    """Whether these are a network of the same family as `network`; True where its family is unknown here."""
    family = network.partition("-")[0]
    known = [keys for name, keys, _ in _KINDS if name == family]
    return not known or any(all(key in shapes for key in keys) for keys in known)


def gpen_sizes(shapes: Shapes) -> tuple[int, int]:
    """Input and output size of a GPEN generator: its encoder halves down to 4, its generator doubles up from 4."""
    levels = sum(key.startswith("ecd") and key.endswith(".weight") for key in shapes)
    doublings = sum(key.startswith("generator.convs.") and key.endswith(".blur.kernel") for key in shapes)
    return 2 ** (levels + 1), 2 ** (doublings + 2)


def _gpen(shapes: Shapes) -> str:
    in_size, out_size = gpen_sizes(shapes)
    size = f"size {in_size}" if in_size == out_size else f"sizes {in_size} in, {out_size} out"
    return f"a GPEN generator of {size} with {shapes['ecd0.0.0.weight'][0]} channels at full resolution"


def _rrdbnet(shapes: Shapes) -> str:
    scale = {3: 4, 12: 2, 48: 1}.get(shapes["conv_first.weight"][1], "of unknown scale")
    return f"RealESRNet (RRDBNet) x{scale}"


def _discriminator(shapes: Shapes) -> str:
    return f"a GAN's discriminator ({len(shapes)} keys), which only training needs"


_KINDS: tuple[tuple[str, tuple[str, ...], Callable[[Shapes], str]], ...] = (
    ("gpen", ("ecd0.0.0.weight", "generator.conv1.conv.weight"), _gpen),
    ("", ("convs.0.0.weight", "final_linear.0.weight"), _discriminator),
    ("", ("style.1.weight", "to_rgb1.conv.weight"), lambda _: "a plain StyleGAN2 generator without GPEN's encoder"),
    ("retinaface", ("body.conv1.weight", "ClassHead.0.conv1x1.weight"), lambda _: "RetinaFace-R50, a face detector"),
    ("parsenet", ("encoder.0.conv2d.weight", "out_mask_conv.conv2d.weight"), lambda _: "ParseNet, a face parser"),
    ("realesrnet", ("conv_first.weight", "body.0.rdb1.conv1.weight"), _rrdbnet),
    ("", ("encoder.conv1.conv.weight", "dense_motion_network.mask.weight"), lambda _: "the face fusion generator AEI"),
    ("", ("input_layer.0.weight", "output_layer.3.weight"), lambda _: "CurricularFace, an identity network"),
    ("", ("backbone.conv1.weight", "final_layers.0.weight"), lambda _: "the 3-D face coefficients (recon ResNet-50)"),
    ("dctnet", ("generator/Conv/weights",), lambda _: "the DCT-Net cartoon generator"),
    ("", ("conv1.weight", "fc.weight"), lambda _: "a plain ResNet"),
)
"""The family whose networks it is ("" for none here), keys that only it has, and words for it."""
