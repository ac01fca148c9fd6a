"""The whole chain of a generator that nobody publishes: checkpoint, bundle, photo; its noise comes from a seed."""

from pathlib import Path

import numpy as np
import pytest

import cameo
from cameo.bundle import Bundle
from exporters import model, open_original
from pipeline.build import build
from pipeline.build_network import BuildOptions
from tests.support import fill
from tests.support.filled_networks import filled, save_checkpoint
from validate.inputs import image_spec

torch = pytest.importorskip("torch")

from exporters.gpen.network import Architecture, FullGenerator  # noqa: E402

NAME = "gpen-sr-128-256"
PHOTO = fill.smooth_u8("gpen-sr/face", 128, 128)

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = Architecture.of(size=256, narrow=0.0625, channel_multiplier=1, style_dim=64, in_size=128)
    network = filled(FullGenerator.without_weights(small).to_empty(device="cpu"))
    return save_checkpoint(network, tmp_path_factory.mktemp("weights") / "GPEN-SR-128-256.pth", "g_ema")


@pytest.fixture(scope="module")
def bundle(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "sr"
    build(model(NAME), weights.parent, out, BuildOptions(engines=("onnxruntime",)), print)
    return out


def test_the_bundle_says_what_the_network_takes(bundle: Path) -> None:
    network = Bundle(bundle).network(NAME)
    assert [spec.name for spec in network.inputs] == ["image", "noise_0", "noise_1"]
    assert image_spec(network).shape[1:3] == (128, 128)


def test_a_photo_comes_out_as_the_original_makes_it_with_the_same_noise(bundle: Path, weights: Path) -> None:
    with cameo.load(bundle) as enlarge, open_original(NAME, weights) as original:
        made = np.asarray(enlarge(PHOTO))
        expected = original.run({"image": PHOTO[None]})["result"][0]
    assert made.shape == (256, 256, 3)
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_the_seed_decides_and_repeats(bundle: Path, weights: Path) -> None:
    with cameo.load(bundle, seed=5) as enlarge, open_original(NAME, weights) as original:
        made = np.asarray(enlarge(PHOTO))
        np.testing.assert_array_equal(made, np.asarray(enlarge(PHOTO)))
        same, other = (original.run({"image": PHOTO[None], "seed": np.array(s)})["result"][0] for s in (5, 0))
    assert np.abs(made.astype(int) - same).max() <= 1
    assert np.abs(made.astype(int) - other).max() > 1
