"""`python -m tests.support.make_golden [SHARED_MODELS]` writes `tests/golden` anew from what the original code gave.

Taken is only what belongs to inputs and weights that `tests/support/fill.py` makes, or to points drawn at random: no
photo, and nothing computed from one. A large array is taken as its shape, its statistics and its samples at
`fill.sample_index`, which is all that `fill.compare` judges by.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.support import fill
from tests.support.golden import GOLDEN

SHARED_MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"
TAKEN: dict[str, tuple[str, ...]] = {
    **{f"gpen{network}": ("out_a",) for network in ("256_n05_c1", "512_n1_c2", "1024_n1_c2")},
    "gpen64_n025_c1": ("out_a", "out_batch2"),
    "gpen_sr128to256_n05_c1": ("out_torch_seed1234", "out_top_noise_weight_zero"),
    "gpen_flow": ("reference_5pts_256",),
    "retinaface_r50": tuple(f"{case}/{output}" for case in "ab" for output in ("loc", "conf", "landms")),
    "parsenet": ("a/mask", "a/img"),
    "rrdbnet": ("x1/out", "x2/out", "x4/out"),
    "curricularface_ir100": ("a/embed",),
    "recon_resnet50_bfm": (
        "a/coeff",
        *(f"bfm/{case}/{kind}" for case in ("a", "zero", "rand") for kind in ("coeff", "kp17")),
    ),
    "dctnet_generator": tuple(
        f"{net}/noise60x44/{kind}" for net in ("cartoon_h", "cartoon_bg") for kind in ("u8", "float")
    ),
    "dctnet_detector_standin": ("noise/boxes", "noise/scores", "noise/num"),
    "dctnet_keypoints_standin": ("noise/prediction",),
    "dctnet_flow": ("global_mask",),  # an ellipse
    "fusion_flow": ("mask_enhance_512",),  # a rectangle
    "aei_net": ("a/Y",),
    "geometry": (
        "points",
        *(f"{flow}/tfm_inv/{index}" for flow in ("fusion", "dct", "gpen") for index in range(12)),
        *("fusion/ref5", "dct/ref5", *(f"gpen/ref5_{size}" for size in (256, 512, 1024))),
    ),
}


def thinned(stored: Mapping[str, fill.Array], key: str) -> dict[str, fill.Array]:
    """The array `key` as it is where it is small, else its shape, statistics and samples."""
    if key not in stored:
        return {f"{key}/{part}": stored[f"{key}/{part}"] for part in ("shape", "stat", "samp")}
    array = stored[key]
    if array.size <= fill.N_SAMPLES:
        return {key: array}
    samples = array.reshape(-1)[fill.sample_index(key, array.size)]
    return {f"{key}/shape": np.array(array.shape), f"{key}/stat": fill.statistics(array), f"{key}/samp": samples}


def make(shared_models: Path, out: Path) -> None:
    """Write the arrays of TAKEN and all key listings into `out`."""
    (out / "keys").mkdir(parents=True, exist_ok=True)
    for name, keys in TAKEN.items():
        with np.load(shared_models / "expected" / f"{name}.npz") as stored:
            taken = {member: array for key in keys for member, array in thinned(stored, key).items()}
        np.savez_compressed(out / f"{name}.npz", **taken)
    for listing in sorted((shared_models / "keys").glob("*.json.gz")):
        shutil.copyfile(listing, out / "keys" / listing.name)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED_MODELS, GOLDEN)
