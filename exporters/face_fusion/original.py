"""Face fusion's networks in PyTorch eager mode, with the pre- and post-processing of their authors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.face_fusion.export_backbone import load_backbone
from exporters.face_fusion.export_generator import load_generator
from exporters.face_fusion.export_recon import load_recon
from exporters.graphs.torch_session import TorchSession, to_photo

if TYPE_CHECKING:
    import torch

    from exporters.graphs.torch_session import Run

LIBRARIES = ("torch",)


def open_original(network: str, weights: Path, part: str = "") -> TorchSession:
    """The network of the checkpoint at `weights` (a folder, where it has several files).

    Raises:
        CheckpointError: not a checkpoint of `network`.
    """
    return TorchSession(_ORIGINALS[network](weights, network, part))


def _generator(weights: Path, network: str, part: str) -> Run:
    module = load_generator(weights, network, part)

    def run(
        image: torch.Tensor, identity: torch.Tensor, keypoints_fused: torch.Tensor, keypoints_target: torch.Tensor
    ) -> Mapping[str, torch.Tensor]:
        result = module((image / 255 - 0.5) / 0.5, identity, keypoints_fused, keypoints_target) * 0.5 + 0.5
        # The authors paste the face before they round; the engines give levels, so it is rounded here.
        return {"result": to_photo((result.clamp(0, 1) * 255).round())}

    return run


def _backbone(weights: Path, network: str, part: str) -> Run:
    from exporters.face_fusion.backbone import prepared

    module = load_backbone(weights, network, part)

    def run(image: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {"embedding": module(prepared(image))}

    return run


def _recon(weights: Path, network: str, part: str) -> Run:
    from exporters.face_fusion.bfm import FaceModel
    from exporters.face_fusion.recon import fused, prepared

    module, model = load_recon(weights, network, part)
    face = FaceModel(model)

    def run(image: torch.Tensor, shape: torch.Tensor) -> Mapping[str, torch.Tensor]:
        coefficients = module(prepared(image))
        return {
            "coefficients": coefficients,
            "keypoints": face(coefficients),
            "keypoints_fused": face(fused(coefficients, shape)),
        }

    return run


_ORIGINALS: Mapping[str, Callable[[Path, str, str], Run]] = {
    "fusion-generator": _generator,
    "curricularface": _backbone,
    "face-recon-3d": _recon,
}
