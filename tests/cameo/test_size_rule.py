"""The size rules of the articles: their exact boundaries, and the ways back to the photo's own pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cameo.faces import Face
from cameo.faces.alignment import transform
from cameo.flows import dctnet, face_fusion, gpen
from cameo.size_rule import BY_LONG_SIDE, BY_SHORT_SIDE, ORIGINAL, SIZE_RULES, fit, lanczos
from tests.cameo.flows.fusion_parts import FACE, TEMPLATE, face_at, flow_with, fuse
from tests.support import fill

BY_SHORT = [  # width, height -> width, height that networks see
    ((511, 600), (512, 600)),
    ((600, 511), (600, 512)),
    ((511, 511), (512, 512)),
    ((300, 1), (512, 512)),
    ((512, 512), (768, 768)),
    ((512, 1024), (768, 1536)),
    ((768, 900), (768, 900)),
    ((1024, 1024), (768, 768)),
    ((1500, 1024), (1125, 768)),
    ((1025, 1025), (1024, 1024)),
    ((2000, 3000), (1024, 1536)),
]


BY_LONG = [
    ((1, 1), (1, 1)),
    ((1024, 1024), (1024, 1024)),
    ((1024, 3), (1024, 3)),
    ((1025, 1025), (1024, 1024)),
    ((1025, 3), (1024, 3)),
    ((3, 1025), (3, 1024)),
    ((1600, 1000), (1024, 640)),
    ((1000, 1600), (640, 1024)),
    ((2000, 3000), (683, 1024)),
    ((60000, 1), (1024, 1)),
]


@pytest.mark.parametrize(("size", "expected"), BY_SHORT)
def test_the_short_side_has_three_ranges(size, expected):
    view = fit(np.zeros((*size[::-1], 3), np.uint8), BY_SHORT_SIDE)
    assert view.image.shape[1::-1] == expected
    assert bool(view.note) == (min(size) > 1024)
    if view.note:
        assert view.note == f"Networks saw the photo at {expected[0]}x{expected[1]} pixels."


@pytest.mark.parametrize(("size", "expected"), BY_LONG)
def test_the_long_side_is_at_most_1024(size, expected):
    photo = np.zeros((*size[::-1], 3), np.uint8)
    view = fit(photo, BY_LONG_SIDE)
    assert view.image.shape[1::-1] == expected
    assert view.size == size
    if size == expected:
        assert view.image is photo
        assert (view.scale, view.shift, view.note) == ((1, 1), (0, 0), "")
    else:
        assert view.note == f"Networks saw the photo at {expected[0]}x{expected[1]} pixels."


def test_the_long_side_shrinks_by_lanczos_over_all_that_a_pixel_covers():
    """Stripes of one pixel are grey from afar; a kernel of a fixed width makes them stripes again."""
    photo = np.zeros((64, 3000, 3), np.uint8)
    photo[:, ::2] = 255
    view = fit(photo, BY_LONG_SIDE)
    assert np.abs(view.image[:, 3:-3].astype(int) - 128).max() <= 12
    fixed = cv2.resize(photo, view.image.shape[1::-1], interpolation=cv2.INTER_LANCZOS4)
    assert np.abs(fixed[:, 3:-3].astype(int) - 128).max() > 100


def test_the_original_rule_leaves_every_photo_alone():
    photo = fill.image_u8("size/photo", 50, 70)
    view = fit(photo, ORIGINAL)
    assert view.image is photo
    assert (view.scale, view.shift, view.note) == ((1, 1), (0, 0), "")


def test_small_photos_are_mirrored_in_the_middle():
    photo = fill.image_u8("size/photo", 300, 509)
    view = fit(photo, BY_SHORT_SIDE)
    np.testing.assert_array_equal(view.image, np.pad(photo, ((106, 106), (1, 2), (0, 0)), "reflect"))
    np.testing.assert_array_equal(view.image[106:406, 1:510], photo)
    assert view.shift == (-1, -106)


@pytest.mark.parametrize(("side", "how", "short"), [(600, cv2.INTER_LANCZOS4, 768), (1300, cv2.INTER_AREA, 1024)])
def test_other_photos_are_resized_as_the_article_says(side, how, short):
    photo = fill.image_u8("size/photo", side, side + 1)
    width = round((side + 1) * short / side)
    np.testing.assert_array_equal(fit(photo, BY_SHORT_SIDE).image, cv2.resize(photo, (width, short), interpolation=how))


@pytest.mark.parametrize("shape", [(400, 300), (600, 900), (1500, 1100)])
def test_places_are_those_of_the_photo(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    photo = np.stack([x / shape[1], y / shape[0], x * 0], axis=-1) * 255
    view = fit(photo.astype(np.uint8), BY_SHORT_SIDE)
    height, width = view.image.shape[:2]
    seen = np.array([(width * 0.5, height * 0.45), (width * 0.6, height * 0.6)]).round()
    face = Face(seen.reshape(-1).astype(np.float32), 1.0, None, np.repeat(seen, [2, 3], axis=0))
    found = view.in_photo(face).five_points
    np.testing.assert_allclose(transform(view.from_photo, found), face.five_points, atol=1e-9)
    for at, there in zip(face.five_points.astype(int), found, strict=True):
        np.testing.assert_allclose(view.image[at[1], at[0], :2], there / shape[::-1] * 255, atol=1.6)


@pytest.mark.parametrize("rule", SIZE_RULES)
@pytest.mark.parametrize("size", [size for size, _ in (*BY_SHORT, *BY_LONG)])
def test_the_way_back_ends_at_the_photos_size(rule, size):
    view = fit(np.zeros((*size[::-1], 3), np.uint8), rule)
    assert view.back(view.image).shape[1::-1] == size
    assert view.back(view.image.repeat(2, axis=0).repeat(2, axis=1)).shape[1::-1] == size


@pytest.mark.parametrize("rule", SIZE_RULES)
@pytest.mark.parametrize("shape", [(300, 509), (600, 900), (1100, 1300)])
def test_the_way_back_puts_everything_in_its_place(rule, shape):
    photo = fill.smooth_u8("size/photo", *shape)
    view = fit(photo, rule)
    error = np.abs(view.back(view.image).astype(int) - photo)
    assert error.max() <= (0 if view.scale == (1, 1) else 6)
    half = cv2.resize(view.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert np.abs(view.back(half).astype(int) - photo).mean() < 1


def test_the_way_back_enlarges_once_and_only_what_is_smaller():
    photo = fill.smooth_u8("size/photo", 1200, 3000)
    view = fit(photo, BY_LONG_SIDE)
    asked = []

    def enlarge(image):
        asked.append(image.shape)
        return image.repeat(2, axis=0).repeat(2, axis=1)

    expected = lanczos(enlarge(view.image), (3000, 1200))
    asked.clear()
    np.testing.assert_array_equal(view.back(view.image, enlarge), expected)
    assert asked == [(410, 1024, 3)]
    asked.clear()
    view.back(photo, enlarge)
    assert asked == []


@pytest.mark.parametrize("shape", [(600, 900), (1500, 1100)])
def test_borders_of_a_resized_photo_are_those_of_the_photo(shape):
    view = fit(np.zeros((*shape, 3), np.uint8), BY_SHORT_SIDE)
    borders = [np.array([(0, 0), (image[1], image[0])]) - 0.5 for image in (shape, view.image.shape)]
    np.testing.assert_allclose(transform(view.from_photo, borders[0]), borders[1], atol=1e-9)


def test_faces_in_the_mirrored_border_are_none():
    small, inside, mirrored = (300, 420), face_at(0.5, 90, 150), face_at(0.5, 90, 10)  # of 512 x 512 pixels
    assert fit(np.zeros((*small, 3), np.uint8), BY_SHORT_SIDE).shift == (-46, -106)
    flow = flow_with(others={(512, 512): [mirrored, inside]})
    outcome = fuse(flow, size_rule=BY_SHORT_SIDE)
    assert [tuple(face.box[:2]) for face in outcome.faces] == [(44, 44)]


@pytest.mark.parametrize("shape", [(300, 420), (640, 900), (1100, 1300)])
def test_the_template_keeps_its_size_and_its_bits_outside_the_face(shape):
    template = fill.smooth_u8("size/template", *shape)
    height, width = fit(template, BY_SHORT_SIDE).image.shape[:2]
    face_view = fit(FACE, BY_SHORT_SIDE).image.shape[:2]
    face = face_at(0.6, width * 0.4, height * 0.35)
    flow = flow_with(others={(height, width): [face], face_view: [face_at(0.5, 200, 200)]})
    outcome = fuse(flow, template, size_rule=BY_SHORT_SIDE)
    changed = (outcome.image != template).any(axis=2)
    x0, y0, x1, y1 = outcome.faces[0].box
    rows, columns = slice(int(y0) + 3, int(y1) - 3), slice(int(x0) + 3, int(x1) - 3)
    assert changed[rows, columns].mean() > 0.9
    changed[int(y0) - 3 : int(y1) + 4, int(x0) - 3 : int(x1) + 4] = False
    assert not changed.any()
    np.testing.assert_allclose(
        outcome.image[rows, columns].astype(int), 255 - template[rows, columns].astype(int), atol=8
    )
    note = "Networks saw the photo 'template' at 1210x1024 pixels."
    assert (note in outcome.note) == (shape == (1100, 1300))


def test_a_rule_is_off_by_default():
    for flow in (dctnet, face_fusion, gpen):
        assert flow.Request().size_rule == ORIGINAL
    np.testing.assert_array_equal(fuse(flow_with()).image, fuse(flow_with(), size_rule=ORIGINAL).image)
    assert TEMPLATE.shape[0] < 512
