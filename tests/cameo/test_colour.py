"""Photos without colour stay without in every flow whose task is not to find colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from cameo.colour import as_colourless_as, is_colourless, without_colour
from cameo.flows import gpen_face
from cameo.testing import FakeSession, image_session
from cameo.tiles import Enlarger
from tests.cameo import test_dctnet_flow as dctnet
from tests.cameo import test_gpen_flow as gpen
from tests.support import fill
from tests.support.doors import Door, opened

GREY = fill.smooth_u8("colour/grey", 200, 300, 1)[..., 0] // 2 + 60
TINT = np.array([12, 0, -12])


def tinting(scale: int = 1) -> FakeSession:
    """A network that adds red and takes blue, and enlarges."""

    def tint(image: Any) -> Any:
        tinted = (image.astype(int) + TINT).clip(0, 255).astype(np.uint8)
        return tinted.repeat(scale, axis=1).repeat(scale, axis=2)

    return image_session(tint)


def gpen_flow(**options: Any) -> Door:
    return gpen.flow_with([gpen.face_at(2, 60, 20)], tinting(), enlarger=Enlarger(tinting(2), 2, None), **options)


def one_face(network: str) -> Any:
    return opened(gpen_face, {network: tinting()})


RESTORING: dict[str, Any] = {
    "gpen": gpen_flow,
    "gpen aligned": lambda: gpen_flow(aligned=True),
    "gpen enlarged": lambda: gpen_flow(sr=True),
    "gpen mixed": lambda: gpen_flow(alpha=0.5),
    "inpainting": lambda: one_face("gpen-inpainting-64"),
    "sr": lambda: one_face("gpen-sr-64-64"),
    "dctnet": lambda: dctnet.flow_with([dctnet.face_at(0.4, 60, 20)], tinting(), tinting()),
}


@pytest.mark.parametrize("make", RESTORING.values(), ids=RESTORING)
def test_a_grey_photo_stays_grey_and_another_does_not(make: Any) -> None:
    flow = make()
    for photo in (Image.fromarray(GREY), np.dstack([GREY] * 3)):
        assert is_colourless(flow.run(photo).image)
    one_coloured_pixel = np.dstack([GREY] * 3)
    one_coloured_pixel[0, 0, 2] ^= 1
    assert np.ptp(flow.run(one_coloured_pixel).image, axis=2).max() >= 12


def test_what_was_not_restored_keeps_its_levels() -> None:
    result = gpen_flow().run(GREY).image[..., 0]
    np.testing.assert_array_equal(result[:, 200:], GREY[:, 200:])
    brighter = round(12 * 0.299 - 12 * 0.114)
    assert np.abs(result[80:90, 120:130].astype(int) - GREY[80:90, 120:130] - brighter).max() <= 1


@pytest.mark.parametrize("network", ["gpen-colorization-64", "gpen-seg2face-64"])
def test_tasks_that_find_colours_find_them(network: str) -> None:
    assert not is_colourless(one_face(network).run(GREY).image)


def test_brightness_is_that_of_rec_601_and_exact_for_grey() -> None:
    levels = np.arange(256, dtype=np.uint8)
    grey = np.dstack([levels[None]] * 3)
    np.testing.assert_array_equal(without_colour(grey), grey)
    assert without_colour(np.array([[[100, 200, 50]]], np.uint8)).tolist() == [[[153] * 3]]  # 29.9 + 117.4 + 5.7
    coloured = fill.smooth_u8("colour/any", 8, 8)
    assert as_colourless_as(coloured, coloured) is coloured
