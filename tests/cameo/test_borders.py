"""Faces that the photo's border cuts, and sides that are padded: no rim, and nothing changes where no border is."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from cameo.faces import Face, paste
from cameo.testing import FakeSession, image_session
from tests.cameo import test_dctnet_flow as dctnet
from tests.cameo import test_gpen_flow as gpen
from tests.support.doors import Door

HEIGHT, WIDTH = 200, 300
# (left, top) of a crop of 128 px that each border cuts through the middle of the face
CUTS = {"left": (-63.4, 40), "right": (WIDTH - 64.6, 40), "top": (80, -63.4), "bottom": (80, HEIGHT - 64.6)}
ACROSS, DOWN = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))


def gentle_photo() -> Any:
    """A bright photo of slow waves, at most 0.3 levels from pixel to pixel."""
    waves = [170 + 40 * np.sin((ACROSS * a + DOWN * b) / 180) for a, b in ((1, 0.5), (0.4, -1), (-1, 1))]
    return np.rint(np.stack(waves, axis=-1)).astype(np.uint8)


def blur() -> FakeSession:
    """A network that mixes what it sees around a pixel, and makes it darker."""
    return image_session(lambda image: np.stack([cv2.blur(one, (13, 13)) - 20 for one in image]))


def identity() -> FakeSession:
    return image_session(lambda image: image)


def gpen_flow(network: FakeSession, *faces: Face) -> Door:
    return gpen.flow_with(faces, network)


def dctnet_flow(network: FakeSession, *faces: Face) -> Door:
    return dctnet.flow_with(faces, identity(), network, np.full((288, 288), 255, np.uint8))


def cut_face(flow: str, border: str) -> Face:
    left, top = CUTS[border]
    return gpen.face_at(2, left, top) if flow == "gpen" else dctnet.face_at(128 / 288, left, top)


FLOWS = {"gpen": gpen_flow, "dctnet": dctnet_flow}
each_flow = pytest.mark.parametrize("flow", FLOWS)
each_border = pytest.mark.parametrize("border", CUTS)


def lines_from(border: str, values: Any) -> Any:
    """The lines of `values` from `border` inwards."""
    lines = values if border in ("top", "bottom") else values.swapaxes(0, 1)
    return lines[::-1] if border in ("right", "bottom") else lines


@each_flow
@each_border
def test_a_network_that_changes_nothing_changes_nothing(flow: str, border: str) -> None:
    photo = gentle_photo()
    result = FLOWS[flow](identity(), cut_face(flow, border))(photo)
    assert np.abs(result.astype(int) - photo).max() <= 1


@each_flow
@each_border
def test_the_outermost_lines_are_as_even_as_the_inside_of_a_face(flow: str, border: str) -> None:
    photo = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    result = FLOWS[flow](blur(), cut_face(flow, border))(photo)
    middle = slice(95, 110) if border in ("left", "right") else slice(135, 150)
    lines = lines_from(border, result.astype(float))[:, middle].mean(axis=(1, 2))
    assert abs(lines[20] - 180) < 1, "the face was restored"
    assert lines[:30].min() >= 179
    # GPEN's mask fades out over 2 px of the photo (8 of 512 of a crop of 128) to the photo's 200
    assert np.abs(np.diff(lines[:30])).max() <= (11 if flow == "gpen" else 1)


def test_sides_that_are_padded_have_no_rim() -> None:
    photo = np.full((201, 301, 3), 200, np.uint8)
    result = dctnet.flow_with([], blur(), identity())(photo)
    assert np.abs(result.astype(int) - 180).max() <= 1


def test_faces_inside_the_photo_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit what comes of crops that go on in black and of masks that do not fade."""
    faces = gpen.face_at(2, 60, 20), gpen.face_at(1.5, 90, 60, 35), gpen.face_at(1, 0, 0), gpen.face_at(1, 236, 136)
    found = gpen_flow(blur(), *faces)(gpen.PHOTO)
    monkeypatch.setattr(paste, "crop", lambda image, matrix, size, _: cv2.warpAffine(image, matrix, (size, size)))
    monkeypatch.setattr(paste, "border_fades", lambda to_crop, size, shape: [np.ones(n, np.float32) for n in shape])
    np.testing.assert_array_equal(found, gpen_flow(blur(), *faces)(gpen.PHOTO))


def test_heads_inside_the_photo_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [dctnet.face_at(0.5, 60, 20), dctnet.face_at(0.3, 180, 90, degrees=25)]
    found = dctnet_flow(blur(), *faces)(gpen.PHOTO)
    monkeypatch.setattr("cameo.flows.dctnet.crop", dctnet.white_crop)
    np.testing.assert_array_equal(found, dctnet_flow(blur(), *faces)(gpen.PHOTO))


def test_a_mask_fades_only_where_its_crop_leaves_the_photo() -> None:
    half = np.array([(0.5, 0.0, 0.0), (0.0, 0.5, 0.0)])  # a crop of 128 px shows 256 px of the photo: 4 px fade
    for shape, ends in (((256, 300), False), ((255, 300), False), ((254, 300), True)):
        rows, columns = paste.border_fades(half, 128, shape)
        assert (len(rows), len(columns)) == shape
        expected = [0.125, 0.375, 0.625, 0.875, 1, 1] if ends else [1] * 6
        np.testing.assert_allclose(rows[:6], expected)
        np.testing.assert_allclose(columns[::-1][:6], expected)
