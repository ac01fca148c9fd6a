"""The PyTorch originals: the authors' pre- and post-processing around the faithful networks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters import open_original
from tests.support import fill
from tests.support.golden import published_keys

torch = pytest.importorskip("torch")


def save_filled(keys: str, path: Path) -> Path:
    """A checkpoint with filled weights under the published keys."""
    weights = fill.fill_state_dict(published_keys(keys))
    torch.save({name: torch.from_numpy(np.asarray(array)) for name, array in weights.items()}, path)
    return path


def test_gpen_is_run_as_its_authors_do(shared_models: Path, tmp_path: Path) -> None:
    weights = save_filled("gpen256_n05_c1", tmp_path / "GPEN-BFR-256.pth")
    expected = np.load(shared_models / "expected/gpen256_facegan_process.npz")
    face = np.ascontiguousarray(cv2.resize(expected["src_bgr"], (256, 256))[..., ::-1])
    with open_original("gpen-bfr-256", weights) as original:
        result = original.run({"image": face[None]})["result"][0, ..., ::-1]
        swapped = original.run({"image": face[None, ..., ::-1]})["result"][0, ..., ::-1]
    assert np.abs(result.astype(int) - expected["out_bgr"]).max() <= 1
    assert np.abs(swapped.astype(int) - expected["out_bgr"]).max() > 1, "the colour order matters"


def test_retinaface_is_fed_bgr_minus_the_mean(tmp_path: Path) -> None:
    weights = save_filled("retinaface_r50", tmp_path / "RetinaFace-R50.pth")
    with open_original("retinaface-r50", weights) as original:
        outputs = original.run({"image": fill.image_u8("retina", 64, 96)[None]})
    anchors = 2 * (8 * 12 + 4 * 6 + 2 * 3)
    assert {name: output.shape for name, output in outputs.items()} == {
        "loc": (1, anchors, 4),
        "conf": (1, anchors, 2),
        "landms": (1, anchors, 10),
    }
    np.testing.assert_allclose(outputs["conf"].sum(axis=-1), 1, atol=1e-6)


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    weights = save_filled("gpen64_n025_c1", tmp_path / "wrong.pth")
    for network in ("gpen-bfr-256", "retinaface-r50", "parsenet", "realesrnet-x2"):
        with pytest.raises(CheckpointError) as caught:
            open_original(network, weights)
        assert "\n" not in str(caught.value)
