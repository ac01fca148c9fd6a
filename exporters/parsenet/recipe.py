"""ParseNet: its logits decide which pixels belong to a face.

Its bf16 form, held by the gates of the flow, is several times faster (docs/decisions/072).
"""

from exporters.recipe import STANDARD_PASSES, Recipe
from metrics.measurement import Gate

RECIPES = (
    Recipe(
        "parsenet",
        STANDARD_PASSES,
        ("onnxruntime", "openvino"),
        ranges=(),
        gates=(Gate("max_difference/mask", 1e-2, precision="fp32"),),
    ),
)
