"""GPEN: a generator for each size of face and task; the flow's finder, parser and enlarger are other families'."""

from engines import InputRange
from exporters.gpen.export import size_of
from exporters.published import Source
from exporters.recipe import (
    GENERATOR_ENGINES,
    GENERATOR_PRECISIONS,
    LIGHTER_GATES,
    ON_REQUEST,
    STANDARD_PASSES,
    Model,
    Recipe,
    picture_gates,
)
from metrics.measurement import Gate

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


_SIZES = (256, 512, 1024, 2048)
# One aligned face in, one out. The checkpoints that enlarge take noise as more inputs, for which engines built ahead
# of time have no ranges.
_FACE_TASKS = ("gpen-colorization-1024", "gpen-inpainting-1024", "gpen-seg2face-512")
_SR = ("gpen-sr-128-256", "gpen-sr-256-512", "gpen-sr-512-1024", "gpen-sr-256-1024")

RECIPES = (
    *(_generator(f"gpen-bfr-{size}") for size in _SIZES),
    *map(_generator, _FACE_TASKS),
    *(Recipe(network, STANDARD_PASSES, ("onnxruntime", "openvino"), (), _EXACT) for network in _SR),
)

_COMPANIONS = ("RetinaFace-R50.pth", "ParseNet-latest.pth", "realesrnet_x2.pth")
_HIRES = "iic/cv_gpen_image-portrait-enhancement-hires"
_SOURCES = {
    512: Source("iic/cv_gpen_image-portrait-enhancement", ("pytorch_model.pt",), _COMPANIONS),
    1024: Source(_HIRES, ("pytorch_model.pt",), _COMPANIONS),
    2048: Source(_HIRES, ("pytorch_model-2048.pt",), _COMPANIONS),
}

MODELS = (
    *(
        Model(
            f"gpen-bfr-{size}",
            flow="gpen",
            networks=(f"gpen-bfr-{size}", "retinaface-r50", "parsenet", "realesrnet-x2"),
            stand_ins={
                "retinaface-r50": "OpenCV's bundled face cascades find the faces instead",
                "parsenet": "a soft rectangle stands in for the shape of the face",
                "realesrnet-x2": "photos cannot be enlarged (--sr)",
            },
            flow_gates=_SAME_PHOTO,
            declaring={"max_faces": 6},  # each takes the original four to twenty seconds
            source=_SOURCES.get(size),
        )
        for size in _SIZES
    ),
    *(Model(network, flow="gpen-face", networks=(network,), flow_gates=_SAME_FACE) for network in (*_FACE_TASKS, *_SR)),
)
