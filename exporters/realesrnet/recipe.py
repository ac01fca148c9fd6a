"""RealESRNet: photos cleaned (x1) and enlarged."""

from exporters.realesrnet.export import NETWORKS
from exporters.recipe import STANDARD_PASSES, Recipe, picture_gates
from metrics.sizes import Sizes

# 162 GMAC for a tile of the flow's size, so the usual megapixel would take the original half a minute a run
# (docs/decisions/082).
_SIZES = Sizes(((96, 128), (256, 256)), (128, 128))

RECIPES = tuple(
    Recipe(
        network,
        STANDARD_PASSES,
        ("onnxruntime", "openvino"),
        ranges=(),
        gates=picture_gates(fp16_psnr=45),
        sizes=_SIZES,
    )
    for network in NETWORKS
)
