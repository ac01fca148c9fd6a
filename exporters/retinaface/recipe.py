"""RetinaFace: its numbers decide where faces are cut out, so they stay exact."""

from exporters.recipe import STANDARD_PASSES, Recipe
from metrics.measurement import Gate
from metrics.sizes import Sizes

RECIPES = (
    Recipe(
        "retinaface-r50",
        STANDARD_PASSES,
        ("onnxruntime", "openvino"),
        ranges=(),
        gates=(
            Gate("max_difference/loc", 1e-3),
            Gate("max_difference/conf", 1e-4),
            Gate("max_difference/landms", 1e-3),
        ),
        precisions=("fp32",),
        sizes=Sizes(((160, 192), (250, 333), (480, 640)), (480, 640)),
    ),
)
