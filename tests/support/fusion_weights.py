"""A folder as the authors of face fusion publish theirs, of narrow networks with filled weights.

    pytorch_model.pt                        the generator, under `state_dict` with its trainer's prefix
    faceRecog/CurricularFace_Backbone.pth   all 49 units
    3dRecon/face_3d.pth                     under `net_recon`
    BFM/BFM_model_front.mat                 `bfm_arrays`
    faceEnhance/GPEN-BFR-1024.pth           1024 pixels
    alpha.jpg                               the ellipse that stands in for the authors'

Without detector.pb and keypoints.pb, which filled weights would let see faces anywhere: OpenCV's cascades find them.
What is fused is noise, and the same noise everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cameo.faces.alpha import ellipse
from tests.support import fill
from tests.support.filled_networks import filled, save_checkpoint

GENERATOR = "pytorch_model.pt"
RECOGNISER = "faceRecog/CurricularFace_Backbone.pth"
SHAPES = "3dRecon/face_3d.pth"
FACE_MODEL = "BFM/BFM_model_front.mat"
ENHANCER = "faceEnhance/GPEN-BFR-1024.pth"
ALPHA = "alpha.jpg"

NARROW = 0.0625
WIDTH = 8  # of the other two, instead of 64
VERTICES = 90  # of a face model instead of 35709
STYLE = 32


def write_folder(folder: Path) -> Path:
    """Write all of it; takes some five seconds."""
    write_generator(folder)
    write_recogniser(folder)
    write_shapes(folder)
    write_enhancer(folder)
    Image.fromarray((ellipse(256) * 255).astype(np.uint8)).save(folder / ALPHA, quality=95)
    return folder


def build_all(folder: Path) -> Path:
    """Write all of it into `weights`, and build it as `bundle` beside that."""
    from exporters import model
    from pipeline.build import build
    from pipeline.build_network import BuildOptions
    from tests.support.in_process import stages_in_process

    options = BuildOptions(engines=("onnxruntime",), precisions=("fp32",))
    with stages_in_process():
        build(model("face-fusion"), write_folder(folder / "weights"), folder / "bundle", options, print)
    return folder


def write_generator(folder: Path, narrow: float = NARROW) -> Path:
    """Write the generator."""
    import torch

    from exporters.face_fusion.network import Architecture, FusionGenerator

    generator = filled(FusionGenerator.without_weights(Architecture.of(narrow)).to_empty(device="cpu"))
    state = {f"module.model.{key}": tensor for key, tensor in generator.state_dict().items()}
    path = _place(folder, GENERATOR)
    torch.save({"state_dict": state}, path)
    return path


def write_recogniser(folder: Path) -> Path:
    """Write CurricularFace's backbone."""
    from exporters.face_fusion.backbone import Backbone

    return save_checkpoint(filled(Backbone(WIDTH)), _place(folder, RECOGNISER))


def write_shapes(folder: Path) -> Path:
    """Write the 3-D face's network and its face model; return the folder, which is the checkpoint of both."""
    from exporters.face_fusion.recon import ReconNet

    save_checkpoint(filled(ReconNet(WIDTH)), _place(folder, SHAPES), "net_recon")
    write_face_model(folder)
    return folder


def write_face_model(folder: Path, **changes: Any) -> Path:
    """Write the face model; `changes` are other arrays in it, None for none."""
    from scipy.io import savemat

    path = _place(folder, FACE_MODEL)
    savemat(path, {key: array for key, array in {**bfm_arrays(), **changes}.items() if array is not None})
    return path


def write_enhancer(folder: Path) -> Path:
    """Write GPEN of 1024 pixels."""
    from exporters.gpen.network import Architecture, FullGenerator

    plan = Architecture.of(1024, narrow=NARROW, channel_multiplier=1, style_dim=STYLE)
    generator = filled(FullGenerator.without_weights(plan).to_empty(device="cpu"))
    return save_checkpoint(generator, _place(folder, ENHANCER))


def bfm_arrays(vertices: int = VERTICES) -> dict[str, np.ndarray]:
    """What is read of BFM_model_front.mat, in its shapes; that of 35709 vertices is the one of the expected values."""
    mean = fill.normal("bfm/meanshape", (1, 3 * vertices), 0.4)
    return {
        "meanshape": mean + np.tile(np.array([0.05, -0.03, 0.7], np.float32), vertices)[None],
        "idBase": fill.normal("bfm/idBase", (3 * vertices, 80), 0.02),
        "exBase": fill.normal("bfm/exBase", (3 * vertices, 64), 0.02),
        "keypoints": fill.integers("bfm/keypoints", (1, 68), 1, vertices + 1),
    }


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
