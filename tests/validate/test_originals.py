"""Originals behind the edges of their engines give what the original code gave."""

from pathlib import Path

import numpy as np
import pytest

from cameo.errors import CheckpointError, EngineError
from exporters import open_original
from tests.support import fill, stand_ins
from tests.support.frozen_graphs import write_small
from tests.support.golden import golden


@pytest.mark.parametrize(("network", "name"), [("dctnet-head", "cartoon_h"), ("dctnet-background", "cartoon_bg")])
def test_generators_take_and_give_rgb_batches(network: str, name: str, tmp_path: Path) -> None:
    bgr = fill.image_u8("dct/noise", 60, 44)
    with open_original(network, stand_ins.write_generator(name, tmp_path)) as session:
        result = session.run({"image": np.stack([bgr[..., ::-1], bgr])})["result"]
    assert result.shape == (2, 60, 44, 3)
    assert result.dtype == np.uint8
    different = fill.compare(golden("dctnet_generator"), f"{name}/noise60x44/u8", result[0, ..., ::-1])
    assert different["max_abs"] <= 1
    assert different["mean_abs"] <= 0.001
    assert not np.array_equal(result[1], result[0])


def test_detector_and_landmarks(tmp_path: Path) -> None:
    expected = {name: golden(f"dctnet_{name}_standin") for name in ("detector", "keypoints")}
    with open_original("dctnet-detector", stand_ins.write_companion("detector", tmp_path)) as session:
        found = session.run({"image": fill.image_u8("det/noise", 512, 512)[None]})
    assert set(found) == {"boxes", "scores", "count"}
    np.testing.assert_array_equal(found["count"], expected["detector"]["noise/num"])
    np.testing.assert_allclose(found["boxes"], expected["detector"]["noise/boxes"], atol=1e-5)
    np.testing.assert_allclose(found["scores"], expected["detector"]["noise/scores"], atol=1e-5)
    with open_original("dctnet-landmarks", stand_ins.write_companion("keypoints", tmp_path)) as session:
        found = session.run({"image": fill.image_u8("kp/noise", 160, 160)[None]})
    np.testing.assert_allclose(found["prediction"], expected["keypoints"]["noise/prediction"], atol=1e-5)


def test_sides_that_the_original_cannot_take_are_told(tmp_path: Path) -> None:
    with (
        open_original("dctnet-head", write_small(tmp_path / "small.pb")) as session,
        pytest.raises(EngineError, match=r"shape \(30, 44, 3\): .*use sides that are multiples of 4"),
    ):
        session.run({"image": np.zeros((1, 30, 44, 3), np.uint8)})


@pytest.mark.parametrize("network", ["gfpgan-512", "dctnet-hands"])
def test_unknown_networks(network: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=network):
        open_original(network, tmp_path / "weights.pb")
