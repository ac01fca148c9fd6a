from pathlib import Path

import cv2
import numpy as np
import pytest

from cameo.errors import EngineUnavailable, PhotoError
from cameo.faces import Face, alignment
from cameo.faces.finders.cascade import CascadeFinder
from cameo.faces.finders.dctnet import MEAN_COLOUR, FaceFinder
from cameo.faces.pupils import find_pupil, five_points
from cameo.testing import FakeSession
from tests.support import fill
from tests.support.golden import golden

# name in geometry.npz: (aligner, crop size, zoom, offset)
ALIGNERS = {
    "fusion": (alignment.similarity_in_image_frame, 256, 0.85, 0),
    "dct": (alignment.similarity_in_image_frame, 288, 0.75, 1),
    "gpen": (alignment.similarity_in_crop_frame, 256, 2 / 3, 0),
}
BOTH = pytest.mark.parametrize(
    "similarity", [alignment.similarity_in_image_frame, alignment.similarity_in_crop_frame], ids=["image", "crop"]
)


@pytest.fixture(scope="module")
def geometry(shared_models: Path):
    with np.load(shared_models / "expected" / "geometry.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", ALIGNERS)
def test_alignment_is_the_original_one(name):
    similarity, size, zoom, offset = ALIGNERS[name]
    template, expected = alignment.square_template(size, zoom, offset), golden("geometry")
    for i, points in enumerate(expected["points"]):
        # The originals keep float32 somewhere: 1e-7 of coordinates in the hundreds.
        found = alignment.invert(similarity(points, template))
        np.testing.assert_allclose(found, expected[f"{name}/tfm_inv/{i}"], atol=5e-5)


@pytest.mark.parametrize("name", ALIGNERS)
def test_crops_are_the_original_ones(geometry, name):
    similarity, size, zoom, offset = ALIGNERS[name]
    template, photo = alignment.square_template(size, zoom, offset), geometry["img_bgr"]
    for i, points in enumerate(geometry["points"]):
        matrix = similarity(points, template)
        crop = alignment.crop(photo, matrix, size)
        shows_photo = cv2.warpAffine(np.ones_like(photo), matrix, (size, size), flags=cv2.INTER_NEAREST) == 1
        shows_photo = cv2.erode(shows_photo.astype(np.uint8), np.ones((5, 5)), borderValue=1)  # not mixed with beyond
        key = f"{name}/crop/{i}"
        samples = fill.sample_index(key, crop.size, 2000)
        inside = shows_photo.reshape(-1)[samples] == 1
        error = np.abs(crop.reshape(-1)[samples].astype(int) - geometry[f"{key}/samp"])[inside]
        assert inside.mean() > 0.5
        assert error.max() <= 2
        assert (error > 0).sum() <= 2


def test_templates_are_the_original_ones():
    geometry = golden("geometry")
    np.testing.assert_allclose(alignment.square_template(112), geometry["fusion/ref5"], atol=1e-12)
    np.testing.assert_allclose(alignment.square_template(112, offset=1), geometry["dct/ref5"], atol=1e-12)
    for size in (256, 512, 1024):
        np.testing.assert_allclose(alignment.square_template(size, 2 / 3), geometry[f"gpen/ref5_{size}"], atol=1e-12)


def test_five_points_are_the_original_ones(geometry):
    rgb = np.ascontiguousarray(geometry["img_bgr"][..., ::-1])
    found = [five_points(rgb, landmarks) for landmarks in geometry["landmarks68"]]
    np.testing.assert_array_equal(found, geometry["f5p"])


@BOTH
def test_similarity_finds_the_turn_that_made_the_points(similarity):
    template = alignment.square_template(256)
    photo_to_crop = np.array([(1.2, 0.5, -30.0), (-0.5, 1.2, 12.0)])
    points = alignment.transform(alignment.invert(photo_to_crop), template)
    np.testing.assert_allclose(similarity(points, template), photo_to_crop, atol=1e-9)


@BOTH
def test_similarity_never_mirrors(similarity):
    template = alignment.square_template(256)
    mirrored = template * (-1, 1) + (256, 0)
    assert np.linalg.det(similarity(mirrored, template)[:, :2]) > 0


@BOTH
@pytest.mark.parametrize("points", [np.full((5, 2), 7.0), np.full((5, 2), np.nan)])
def test_points_that_coincide_are_refused(similarity, points):
    with pytest.raises(PhotoError, match="five points of a face all lie at"):
        similarity(points, alignment.square_template(256))


@pytest.mark.parametrize("shift", [(10, 0), (-10, 0), (0, 10), (0, -10), (-30, 50)])
def test_crop_mirrors_the_photo_where_it_ends(shift):
    photo = fill.image_u8("faces/border", 20, 20)
    matrix = np.array([(1.0, 0.0, shift[0]), (0.0, 1.0, shift[1])])
    mirrored = np.pad(photo, ((60, 60), (60, 60), (0, 0)), "symmetric")
    expected = mirrored[60 - shift[1] : 80 - shift[1], 60 - shift[0] : 80 - shift[0]]
    np.testing.assert_array_equal(alignment.crop(photo, matrix, 20), expected)


def eye_image() -> np.ndarray:
    image = np.full((60, 80, 3), 200, np.uint8)
    cv2.circle(image, (43, 31), 4, (20, 20, 20), cv2.FILLED)
    return image


def test_pupil_is_the_dark_spot_of_the_eye():
    eye = np.array([(30, 30), (38, 22), (48, 22), (56, 30), (43, 40)], np.float32)
    assert find_pupil(eye_image(), eye) == (43, 31)


def test_dark_spot_in_the_corner_of_the_sixth_point_is_not_seen():
    landmarks = fill.landmarks68(1.0, cx=150, cy=150, size=400)
    image = np.full((300, 300, 3), 200, np.uint8)
    spot = landmarks[[36, 40, 41]].mean(axis=0)  # inside the six-point eye, outside the polygon of the first five
    assert cv2.pointPolygonTest(landmarks[36:42], spot.tolist(), False) > 0
    cv2.circle(image, spot.astype(int).tolist(), 1, (20, 20, 20), cv2.FILLED)
    pupil = five_points(image, landmarks)[0]
    assert np.linalg.norm(pupil - spot) > 5
    box = np.trunc([landmarks[36:41].min(axis=0), landmarks[36:41].max(axis=0)])
    np.testing.assert_array_equal(pupil, box.mean(axis=0))


@pytest.mark.parametrize("offset", [(-40, 0), (0, -30), (40, 0), (0, 40)])
def test_eye_outside_the_photo_has_no_pupil(offset):
    eye = np.array([(30, 30), (38, 22), (48, 22), (56, 30), (43, 40)], np.float32)
    assert find_pupil(eye_image(), eye + np.array(offset, np.float32)) is None


def test_both_pupils_are_means_when_one_is_missing():
    landmarks = fill.landmarks68(1.0, cx=2, cy=30, size=40)  # the left eye is beyond the left edge
    points = five_points(eye_image(), landmarks)
    np.testing.assert_allclose(points[0], landmarks[36:41].mean(axis=0))
    np.testing.assert_allclose(points[1], landmarks[42:47].mean(axis=0))


# A landmark network that always sees the same upright face in its crop.
FRACTIONS = fill.landmarks68(1.0, cx=0.5, cy=0.5, size=0.7)


def landmark_session() -> FakeSession:
    row = np.concatenate([FRACTIONS.reshape(-1), np.zeros(7, np.float32)])
    return FakeSession(lambda image: {"prediction": np.tile(row, (len(image), 1))})


def detector_session(boxes, scores) -> FakeSession:
    """Boxes as fractions (ymin, xmin, ymax, xmax) of the canvas, padded with rows that do not count."""
    rows = np.zeros((1, 100, 4), np.float32)
    rows[0, : len(boxes)] = np.reshape(boxes, (-1, 4))
    padded = np.ones((1, 100), np.float32)
    padded[0, : len(scores)] = scores
    return FakeSession(lambda _: {"boxes": rows, "scores": padded, "count": np.array([len(scores)], np.int32)})


def test_detector_sees_the_photo_shrunk_into_the_top_left_corner():
    seen = []

    def detect(image):
        seen.append(image[0])
        return {"boxes": np.zeros((1, 1, 4)), "scores": np.zeros((1, 1)), "count": np.array([0])}

    FaceFinder(FakeSession(detect), landmark_session())(np.full((512, 1024, 3), (9, 8, 7), np.uint8))
    assert seen[0].shape == (512, 512, 3)
    assert (seen[0][:256] == (9, 8, 7)).all()
    assert (seen[0][256:] == MEAN_COLOUR).all()


def test_faces_come_largest_first_through_one_landmark_batch():
    boxes = [(0.1, 0.1, 0.3, 0.3), (0.3, 0.4, 0.8, 0.9), (0.0, 0.5, 0.2, 0.7)]  # ymin, xmin, ymax, xmax
    landmarks = landmark_session()
    finder = FaceFinder(detector_session(boxes, [0.95, 0.9, 0.8]), landmarks)  # 0.8 is not above the limit
    faces = finder(fill.smooth_u8("faces/photo", 1000, 1000))
    assert landmarks.shapes == [(2, 160, 160, 3)]
    assert [round(face.score, 2) for face in faces] == [0.9, 0.95]
    side, left, top = 700, 650 - 350, 550 - 350  # 1.4 x 500 px around the middle of the larger box
    np.testing.assert_array_equal(faces[0].landmarks, np.trunc(FRACTIONS * np.float32(side) + (left, top)))
    low, high = faces[0].landmarks.min(axis=0), faces[0].landmarks.max(axis=0)
    box = 0.3 * np.concatenate([low, high]) + 0.7 * np.array([400, 300, 900, 800])
    np.testing.assert_allclose(faces[0].box, box, atol=0.01)


def test_small_faces_are_dropped_and_ten_are_kept():
    steps = np.linspace(0.05, 0.2, 12)
    boxes = [(0.1, 0.1, 0.1 + step, 0.1 + step) for step in steps]  # 51 to 205 px
    photo = fill.smooth_u8("faces/photo", 1024, 1024)
    faces = FaceFinder(detector_session(boxes, [0.9] * 12), landmark_session())(photo)
    assert len(faces) == 10
    faces = FaceFinder(detector_session(boxes[:2], [0.9] * 2), landmark_session())(photo)
    assert len(faces) == 1  # 51 px is too small, 65 px is not


@pytest.mark.parametrize("box", [(0, 0, 0.3, 0.3), (0.7, 0.7, 1, 1), (0.9, 0.0, 1, 1), (0.0, 0.5, 1, 0.501)])
def test_faces_at_and_beyond_the_edge(box):
    photo = fill.smooth_u8("faces/photo", 300, 400)
    for face in FaceFinder(detector_session([box], [0.9]), landmark_session())(photo):
        assert np.isfinite(face.five_points).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (3000, 1, 3)])
@pytest.mark.parametrize("finder", [FaceFinder(detector_session([], []), landmark_session()), CascadeFinder()])
def test_no_faces_in_tiny_photos(finder, shape):
    assert finder(np.zeros(shape, np.uint8)) == []


@pytest.mark.slow
def test_detection_is_the_original_one(shared_models):
    pytest.importorskip("tensorflow")
    from tests.support.frozen_sessions import open_companions

    with np.load(shared_models / "expected" / "dctnet_flow.npz") as arrays:
        photo = arrays["in/photo_300x420_rgb"]
        expected = {
            name: arrays[f"standin/photo_300x420/{name}"] for name in ("detector_boxes", "track_boxes", "landmarks")
        }
    detector, landmarks = open_companions(shared_models / "dctnet")
    with detector, landmarks:
        finder = FaceFinder(detector, landmarks)
        np.testing.assert_allclose(finder.detect(photo), expected["detector_boxes"], atol=1e-3)
        faces = finder(photo)
    np.testing.assert_array_equal([face.landmarks for face in faces], expected["landmarks"])
    np.testing.assert_allclose([face.box for face in faces], expected["track_boxes"], atol=1e-3)


# Marked by hand on an eightfold enlargement; the face is 90 px wide.
ASTRONAUT = np.array([(202.5, 101.5), (246, 104), (221, 124), (204.5, 140.5), (243.5, 142)])
ASTRONAUT_TOLERANCE = np.array([2.0, 2.0, 4.0, 6.0, 6.0])  # pixels: mouth and nose come from proportions


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return pytest.importorskip("skimage.data").astronaut()


@pytest.mark.parametrize(("scale", "degrees"), [(1, 0), (0.6, 0), (4, 0), (1, 10), (1, -10)])
def test_cascades_find_the_astronaut(astronaut, scale, degrees):
    turn = cv2.getRotationMatrix2D((256, 256), degrees, 1) * scale
    side = int(512 * scale)
    photo = cv2.warpAffine(astronaut, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    faces = CascadeFinder()(photo)
    assert len(faces) == 1
    error = np.linalg.norm(faces[0].five_points - alignment.transform(turn, ASTRONAUT), axis=1) / scale
    assert (error < ASTRONAUT_TOLERANCE + 1).all(), error
    assert faces[0].landmarks is None


def test_cascades_fall_back_to_proportions_without_eyes(astronaut):
    photo = cv2.GaussianBlur(astronaut, (0, 0), 5)
    finder = CascadeFinder()
    finder._find_eyes = lambda face: None
    (face,) = finder(photo)
    assert np.linalg.norm(face.five_points - ASTRONAUT, axis=1).max() < 10


@pytest.mark.parametrize("name", ["coffee", "rocket", "chelsea"])
def test_cascades_find_no_face_where_none_is(name):
    photo = getattr(pytest.importorskip("skimage.data"), name)()
    assert CascadeFinder()(photo) == []


def test_opencv_without_cascades_is_named(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(EngineUnavailable, match="no Haar cascades, expected OpenCV 4"):
        CascadeFinder()


def test_face_scales_with_its_photo():
    face = Face(np.array([1, 2, 3, 4], np.float32), 0.9, None, np.ones((5, 2)))
    scaled = face.scaled(2, 3)
    np.testing.assert_array_equal(scaled.box, [2, 6, 6, 12])
    np.testing.assert_array_equal(scaled.five_points[0], [2, 3])
    assert (face.area, scaled.area, scaled.landmarks) == (4, 24, None)
