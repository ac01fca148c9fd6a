"""GPEN on one aligned face: what goes in and comes out for each of its tasks."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from cameo.errors import BundleError, CameoError, PhotoError
from cameo.flows import gpen_face
from cameo.session import Tensor
from cameo.testing import FakeSession, image_session
from tests.support import doors, fill

PHOTO = fill.smooth_u8("gpen-face/photo", 40, 60)


class Seen:
    """A session that keeps what it was fed and gives back `compute` of it."""

    def __init__(self, compute: Any = lambda image: image) -> None:
        self.feeds: dict[str, Tensor] = {}
        self._compute = compute

    def run(self, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
        self.feeds = feeds
        return {"result": self._compute(feeds["image"])}


def opened(network: str, session: Any, **options: object) -> Any:
    return doors.opened(gpen_face, {network: session}, **options)


def test_colorization_sees_grey_and_keeps_the_photos_brightness_and_size() -> None:
    red = np.zeros((1, 32, 32, 3), np.uint8) + np.array([200, 40, 40], np.uint8)
    session = Seen(lambda image: red)
    made = opened("gpen-colorization-32", session).run(PHOTO)
    fed = session.feeds["image"]
    assert fed.shape == (1, 32, 32, 3)
    assert (fed[..., 0] == fed[..., 1]).all()
    assert (fed[..., 0] == fed[..., 2]).all()
    assert made.image.shape == PHOTO.shape
    (face,) = made.faces
    assert face.box.tolist() == [0, 0, PHOTO.shape[1], PHOTO.shape[0]]
    assert made.note == "The whole photo was taken as one aligned face."
    grey = cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY).astype(int)
    got = cv2.cvtColor(made.image, cv2.COLOR_RGB2YUV)
    inside = (grey > 60) & (grey < 135)  # where the red is within 0..255 at that brightness
    assert inside.any()
    assert np.abs(got[..., 0].astype(int) - grey)[inside].max() <= 2
    wanted = cv2.cvtColor(red[0], cv2.COLOR_RGB2YUV)[0, 0]
    assert np.abs(got[inside][:, 1:].astype(int) - wanted[1:]).max() <= 2


def test_colorization_of_a_photo_of_the_networks_size_is_just_the_result() -> None:
    photo = fill.smooth_u8("gpen-face/square", 32, 32)
    session = Seen(lambda image: 255 - image)
    np.testing.assert_array_equal(
        opened("gpen-colorization-32", session).run(photo).image, 255 - session.feeds["image"][0]
    )


def test_inpainting_paints_what_is_missing_white(tmp_path: Path) -> None:
    mask = np.zeros_like(PHOTO)
    mask[10:20, 5:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    session = Seen()
    made = opened("gpen-inpainting-64", session, mask=tmp_path / "mask.png").run(PHOTO)
    damaged = PHOTO.copy()
    damaged[10:20, 5:30] = 255
    np.testing.assert_array_equal(session.feeds["image"][0], cv2.resize(damaged, (64, 64)))
    assert made.image.shape == (64, 64, 3)
    without = Seen()
    opened("gpen-inpainting-64", without).run(PHOTO)
    np.testing.assert_array_equal(without.feeds["image"][0], cv2.resize(PHOTO, (64, 64)))


def test_a_mask_of_another_size_or_task_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 59, 3), np.uint8)).save(tmp_path / "mask.png")
    flow = opened("gpen-inpainting-64", Seen(), mask=str(tmp_path / "mask.png"))
    with pytest.raises(PhotoError, match="photo is 60x40 and the mask 59x40, expected one size"):
        flow.run(PHOTO)
    with pytest.raises(CameoError, match="Option `mask` is for gpen-inpainting-SIZE, the bundle has gpen-seg2face-64"):
        opened("gpen-seg2face-64", Seen(), mask=tmp_path / "mask.png").run(PHOTO)


def test_a_seed_for_a_network_without_noise_is_refused() -> None:
    with pytest.raises(CameoError, match="Option `seed` is for gpen-sr-IN-OUT, the bundle has gpen-inpainting-64"):
        opened("gpen-inpainting-64", Seen(), seed=3).run(PHOTO)


def test_seg2face_draws_from_the_label_image_as_it_is() -> None:
    session = image_session(lambda image: image[:, ::-1])
    made = opened("gpen-seg2face-64", session, aligned=True).run(PHOTO)
    np.testing.assert_array_equal(made.image, cv2.resize(PHOTO, (64, 64))[::-1])


def test_enlarging_takes_one_size_gives_the_other_and_passes_the_seed_on() -> None:
    session = Seen(lambda image: image.repeat(2, axis=1).repeat(2, axis=2))
    steps: list[tuple[int, int]] = []
    flow = opened("gpen-sr-32-64", session, seed=9)
    made = flow.run(PHOTO, lambda done, of: steps.append((done, of)))
    assert session.feeds["image"].shape == (1, 32, 32, 3)
    assert int(session.feeds["seed"]) == 9
    assert made.image.shape == (64, 64, 3)
    assert steps == [(1, 1)]
    assert flow.describe() == "GPEN enlarges one aligned face of 32 px to 64 px"
    assert (flow(PHOTO) == made.image).all()


def test_what_does_not_fit_is_refused() -> None:
    session = FakeSession(lambda image: {"result": image})
    with pytest.raises(BundleError, match="no network gpen-colorization-SIZE, .* expected one"):
        doors.opened(gpen_face, {"gpen-bfr-256": session})
    for options, match in (
        ({"aligned": False}, "Option `aligned` of gpen-face is False, expected yes."),
        ({"seed": -1}, "Option `seed` of gpen-face is -1, expected a whole number of at least 0"),
        ({"max_pixels": 0}, "Option `max_pixels` of gpen-face is 0"),
        (
            {"alpha": 1},
            "gpen-face has no option `alpha`, expected one of `max_pixels`, `max_side`.",
        ),
    ):
        with pytest.raises(CameoError, match=match):
            opened("gpen-seg2face-64", session, **options)
    with pytest.raises(PhotoError, match="2,400 pixels"):
        opened("gpen-seg2face-64", session, max_pixels=100).run(PHOTO)
