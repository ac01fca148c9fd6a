"""DCT-Net: two cartoon generators and the two face networks of its flow."""

from engines import InputRange
from exporters.published import Figure, Figures, Source
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

# The generators' sides are multiples of 4: the original fails on others, and the flow pads.
_GENERATOR_PASSES = (*STANDARD_PASSES, "block-small-outputs")


_EXACT = picture_gates(fp16_psnr=50)

# The whole flow, photo in and photo out.
_FLOW = (
    *(Gate("psnr", 45, precision=p) for p in GENERATOR_PRECISIONS),
    *LIGHTER_GATES,
)

# The companions are tiny: bf16 would save a few milliseconds and move a face by a pixel. Fractions of the input's side.
_SAME_BOXES = (
    Gate("max_difference/boxes", 1e-4),
    Gate("max_difference/scores", 1e-4),
    Gate("max_difference/count", 0),
)
_SAME_LANDMARKS = (Gate("max_difference/prediction", 1e-4),)

RECIPES = (
    Recipe(
        "dctnet-background",
        _GENERATOR_PASSES,
        GENERATOR_ENGINES,
        ranges=(
            InputRange("up-to-512", (1, 64, 64, 3), (1, 512, 512, 3), (1, 512, 512, 3)),
            InputRange("up-to-1024", (1, 64, 64, 3), (1, 720, 960, 3), (1, 1024, 1024, 3)),
            InputRange("up-to-1024-batch-4", (1, 64, 64, 3), (4, 1024, 1024, 3), (4, 1024, 1024, 3)),
            InputRange("up-to-3008", (1, 64, 64, 3), (1, 2048, 2048, 3), (1, 3008, 3008, 3)),
        ),
        gates=_EXACT,
        precisions=GENERATOR_PRECISIONS,
        on_request=ON_REQUEST,
    ),
    Recipe(
        "dctnet-head",
        _GENERATOR_PASSES,
        GENERATOR_ENGINES,
        ranges=(
            # One: beside a larger batch the same head takes 26 MiB instead of 23 in FP16 (docs/decisions/053).
            InputRange("one-head", (1, 288, 288, 3), (1, 288, 288, 3), (1, 288, 288, 3)),
        ),
        gates=_EXACT,
        precisions=GENERATOR_PRECISIONS,
        on_request=ON_REQUEST,
    ),
    Recipe(
        "dctnet-detector",
        STANDARD_PASSES,
        ("onnxruntime", "openvino"),
        ranges=(),
        gates=_SAME_BOXES,
        precisions=("fp32",),
    ),
    Recipe(
        "dctnet-landmarks",
        STANDARD_PASSES,
        ("onnxruntime", "openvino"),
        ranges=(),
        gates=_SAME_LANDMARKS,
        precisions=("fp32",),
    ),
)

# A deployment article on DCT-Net, 1024×1024.
_FIGURES = Figures(
    "RTX 4090, TensorFlow 1.15",
    (
        Figure("TensorFlow, allow_growth off", (1024, 1024), 11200, 890),
        Figure("TensorFlow, allow_growth on", (1024, 1024), 5800, 890),
        Figure("FP16", (1024, 1024), 3500, 650),
        Figure("30 % of channels pruned", (1024, 1024), 3000, 480),
    ),
    networks=("dctnet-background", "dctnet-head"),
)

MODELS = (
    Model(
        "dctnet",
        flow="dctnet",
        networks=(*(recipe.network for recipe in RECIPES), "realesrnet-x2"),
        assets={"alpha": "alpha.jpg"},
        flow_gates=_FLOW,
        stand_ins={
            "alpha": "heads are pasted through an ellipse with a soft rim instead",
            "dctnet-detector": "OpenCV's bundled face cascades find the faces instead",
            "dctnet-landmarks": "the five points of a face come from OpenCV's bundled eye cascade instead",
            "realesrnet-x2": "results are enlarged to the photo's size by interpolation (no --sr)",
        },
        source=Source(
            "iic/cv_unet_person-image-cartoon_compound-models",
            required=("cartoon_bg.pb", "cartoon_h.pb"),
            companions=("detector.pb", "keypoints.pb", "alpha.jpg"),
        ),
        figures=_FIGURES,
    ),
)
