"""What results say of themselves: what was done to them, and nothing where nothing was done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cameo
from cameo import __version__
from cameo.flows import Outcome
from cameo.images import Picture, origin_of
from cameo.images.xmp import Origin
from cameo.testing import fake_bundle, image_session

PHOTO = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
TOOL = f"Cameo {__version__}"


def outcome(folder: Path, flow: str, network: str, photo: Picture, **options: object) -> Outcome:
    networks = {network: image_session(lambda image: 255 - image)}
    with fake_bundle(folder / "bundle", flow, networks) as bundle, cameo.load(bundle, **options) as model:
        return model.run(photo)


def origin(folder: Path, made: Outcome) -> Origin:
    cameo.save(made, folder / "result.png")
    return origin_of(folder / "result.png")[0]


def test_a_restored_photo_says_so(tmp_path: Path) -> None:
    made = outcome(tmp_path, "gpen", "gpen-bfr-64", Picture(PHOTO), aligned=True)
    assert origin(tmp_path, made) == Origin("algorithmicallyEnhanced", TOOL, "fake-gpen")
    assert made.provenance is not None
    (used,) = made.provenance.networks
    assert (used.name, used.engine) == ("gpen-bfr-64", "fake-bundle fp32")
    assert len({used.network_sha256, used.engine_sha256}) == 2


@pytest.mark.parametrize("own", ["", "digitalCapture", "trainedAlgorithmicMedia"])
def test_of_a_photo_in_which_nothing_was_changed_its_own_file_is_repeated(own: str, tmp_path: Path) -> None:
    made = outcome(tmp_path, "gpen", "gpen-bfr-64", Picture(PHOTO, source_type=own))
    np.testing.assert_array_equal(made.image, PHOTO, "noise has no face")
    assert origin(tmp_path, made) == Origin(own, TOOL, "")


def test_a_restored_picture_of_generative_ai_is_still_one(tmp_path: Path) -> None:
    photo = Picture(PHOTO, source_type="trainedAlgorithmicMedia")
    made = outcome(tmp_path, "gpen", "gpen-bfr-64", photo, aligned=True)
    assert origin(tmp_path, made).source_type == "trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("gpen-colorization-64", "compositeWithTrainedAlgorithmicMedia"),
        ("gpen-inpainting-64", "compositeWithTrainedAlgorithmicMedia"),
        ("gpen-seg2face-64", "trainedAlgorithmicMedia"),
        ("gpen-sr-32-64", "algorithmicallyEnhanced"),
    ],
)
def test_each_task_of_gpen_says_its_own(network: str, said: str, tmp_path: Path) -> None:
    assert origin(tmp_path, outcome(tmp_path, "gpen-face", network, Picture(PHOTO))).source_type == said


def test_a_picture_of_no_model_is_saved_too(tmp_path: Path) -> None:
    assert origin(tmp_path, Outcome(PHOTO)) == Origin()
