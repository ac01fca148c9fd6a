"""GPEN: a generator for each size of face, and the face finder, face parser and enlarger of its photo flow."""

from engines import InputRange
from exporters.gpen import size_of
from pipeline.recipe import (
    GENERATOR_ENGINES,
    GENERATOR_PRECISIONS,
    LIGHTER_GATES,
    ON_REQUEST,
    STANDARD_PASSES,
    Model,
    Recipe,
    picture_gates,
)
from validate.inputs import Sizes
from validate.measurement import Gate

_EXACT = picture_gates(fp16_psnr=45)

# The whole flow. A finder's points differ in the last bits, and a warp rounds positions to 1/32 pixel: a few pixels of
# a restored face may be far off where all the others are the same, so the limit is on all of them (docs/decisions/080).
_SAME_RESULT = (
    *(Gate("psnr", 45, precision=precision) for precision in GENERATOR_PRECISIONS),
    *LIGHTER_GATES,
)
_SAME_PHOTO = (
    Gate("psnr", 50, precision="fp32", mode="quality"),
    Gate("faces_lost", 0),
    Gate("landmark_shift_share", 5),
    *_SAME_RESULT,
)
# Where the photo is the face, nothing is found or cut out: rounding may add up once more.
_SAME_FACE = (Gate("max_difference", 2, precision="fp32"), *_SAME_RESULT)


def _generator(network: str) -> Recipe:
    size = size_of(network)
    shape = (size, size, 3)
    return Recipe(
        network,
        STANDARD_PASSES,
        GENERATOR_ENGINES,
        ranges=(
            # One: a second range in the same engine costs the first 43 of 343 MiB (GPEN-512, FP16; docs/decisions/053).
            InputRange("one-face", (1, *shape), (1, *shape), (1, *shape)),
        ),
        gates=_EXACT,
        precisions=GENERATOR_PRECISIONS,
        on_request=ON_REQUEST,
    )


# The finder's numbers decide where faces are cut out, so they stay exact. The parser's logits decide which pixels
# belong to a face; its bf16 form, held by the gates of the flow, is several times faster (docs/decisions/072).
_FINDER = Recipe(
    "retinaface-r50",
    STANDARD_PASSES,
    ("onnxruntime", "openvino"),
    ranges=(),
    gates=(Gate("max_difference/loc", 1e-3), Gate("max_difference/conf", 1e-4), Gate("max_difference/landms", 1e-3)),
    precisions=("fp32",),
    optional=True,
    sizes=Sizes(((160, 192), (250, 333), (480, 640)), (480, 640)),
)
_PARSER = Recipe(
    "parsenet",
    STANDARD_PASSES,
    ("onnxruntime", "openvino"),
    ranges=(),
    gates=(Gate("max_difference/mask", 1e-2, precision="fp32"),),
    optional=True,
)
# 162 GMAC for a tile of the flow's size, so the usual megapixel would take the original half a minute a run.
_ENLARGER = Recipe(
    "realesrnet-x2",
    STANDARD_PASSES,
    ("onnxruntime", "openvino"),
    ranges=(),
    gates=_EXACT,
    optional=True,
    sizes=Sizes(((96, 128), (256, 256)), (128, 128)),
)

MODELS = tuple(
    Model(
        f"gpen-bfr-{size}",
        flow="gpen",
        recipes=(_generator(f"gpen-bfr-{size}"), _FINDER, _PARSER, _ENLARGER),
        stand_ins={
            "retinaface-r50": "OpenCV's bundled face cascades find the faces instead",
            "parsenet": "a soft rectangle stands in for the shape of the face",
            "realesrnet-x2": "photos cannot be enlarged (--sr)",
        },
        flow_gates=_SAME_PHOTO,
        flow_options={"max_faces": 6},  # each takes the original four to twenty seconds
    )
    for size in (256, 512, 1024, 2048)
)

# One aligned face in, one out. The checkpoints that enlarge take noise as more inputs, for which engines built ahead
# of time have no ranges.
_FACE_TASKS = ("gpen-colorization-1024", "gpen-inpainting-1024", "gpen-seg2face-512")
_SR = ("gpen-sr-128-256", "gpen-sr-256-512", "gpen-sr-512-1024", "gpen-sr-256-1024")
MODELS += tuple(
    Model(recipe.network, flow="gpen-face", recipes=(recipe,), flow_gates=_SAME_FACE)
    for recipe in (
        *map(_generator, _FACE_TASKS),
        *(Recipe(network, STANDARD_PASSES, ("onnxruntime", "openvino"), (), _EXACT) for network in _SR),
    )
)
