"""ParseNet: its logits decide which pixels belong to a face.

Its bf16 and FP16 forms are held by the gates of the flow; the former is several times faster (docs/decisions/072).
"""

from engines import InputRange
from exporters.parsenet.export import SIZE
from exporters.recipe import GENERATOR_ENGINES, GENERATOR_PRECISIONS, STANDARD_PASSES, Recipe
from metrics.measurement import Gate

_FACE = (1, SIZE, SIZE, 3)

RECIPES = (
    Recipe(
        "parsenet",
        STANDARD_PASSES,
        GENERATOR_ENGINES,
        ranges=(InputRange("one-face", _FACE, _FACE, _FACE),),
        gates=(Gate("max_difference/mask", 1e-2, precision="fp32"),),
        precisions=GENERATOR_PRECISIONS,
    ),
)
