"""GPEN: a generator for each size of face, and the face finder, face parser and enlarger of its photo flow."""

from engines import InputRange
from pipeline.recipe import STANDARD_PASSES, Model, Recipe
from validate.measurement import Gate

_ENGINES = ("onnxruntime", "openvino", "tensorrt-rtx", "tensorrt")

# The original is in FP32: an FP32 engine may differ by one level where rounding lands on the other side of an integer.
_EXACT = (
    Gate("max_difference", 1, precision="fp32"),
    Gate("changed_share", 0.1, precision="fp32"),
    Gate("psnr", 45, precision="bf16"),
)


def _generator(size: int) -> Recipe:
    shape = (size, size, 3)
    return Recipe(
        f"gpen-bfr-{size}",
        STANDARD_PASSES,
        _ENGINES,
        ranges=(
            InputRange("one-face", (1, *shape), (1, *shape), (1, *shape)),
            InputRange("up-to-4-faces", (1, *shape), (4, *shape), (4, *shape)),
        ),
        gates=_EXACT,
    )


# The finder's numbers decide where faces are cut out, and the parser's logits which pixels belong to one: both stay
# exact, and run where every engine does.
_FINDER = Recipe(
    "retinaface-r50",
    STANDARD_PASSES,
    ("onnxruntime", "openvino"),
    ranges=(),
    gates=(Gate("max_difference/loc", 1e-3), Gate("max_difference/conf", 1e-4), Gate("max_difference/landms", 1e-3)),
    precisions=("fp32",),
    optional=True,
)
_PARSER = Recipe(
    "parsenet",
    STANDARD_PASSES,
    ("onnxruntime", "openvino"),
    ranges=(),
    gates=(Gate("max_difference/mask", 1e-2),),
    precisions=("fp32",),
    optional=True,
)
_ENLARGER = Recipe(
    "realesrnet-x2", STANDARD_PASSES, ("onnxruntime", "openvino"), ranges=(), gates=_EXACT, optional=True
)

MODELS = tuple(
    Model(
        f"gpen-bfr-{size}",
        flow="gpen",
        recipes=(_generator(size), _FINDER, _PARSER, _ENLARGER),
        stand_ins={
            "retinaface-r50": "OpenCV's bundled face cascades find the faces instead",
            "parsenet": "a soft rectangle stands in for the shape of the face",
            "realesrnet-x2": "photos cannot be enlarged (--sr)",
        },
    )
    for size in (256, 512, 1024, 2048)
)
