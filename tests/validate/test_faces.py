"""Faces of two results: crops, fidelity, and how far the points moved."""

import math

import numpy as np

from metrics.landmarks import nearest
from tests.support import fill
from validate.faces import CROP_SIZE, Result, compare_faces

PICTURE = fill.smooth_u8("faces/picture", 300, 700)
FACE = np.array([(120.0, 130), (180, 130), (150, 165), (128, 200), (172, 200)])
FAR = FACE + np.array([350, 0])


def test_equal_results_have_equal_faces_that_do_not_move() -> None:
    result = Result(PICTURE, np.stack([FAR, FACE]))
    one, other = compare_faces("a/b", np.stack([FACE, FAR]), result, result)
    assert one.original.shape == (CROP_SIZE, CROP_SIZE, 3)
    np.testing.assert_array_equal(one.original, one.candidate)
    assert {m.metric: m.value for m in one.measurements}["psnr"] == math.inf
    assert (one.shift_px, other.shift_px) == (0, 0)
    assert one.eye_distance_px == 60
    assert not np.array_equal(one.original, other.original)


def test_the_farthest_of_the_five_points_is_the_shift() -> None:
    moved = FACE.copy()
    moved[2] += (3, 4)
    (face,) = compare_faces("a/b", FACE[None], Result(PICTURE, FACE[None]), Result(PICTURE, moved[None]))
    assert face.shift_px == 5
    assert face.shift_share == 5 / 60 * 100


def test_a_changed_face_is_told_by_its_crop_alone() -> None:
    changed = PICTURE.copy()
    changed[100:230, 90:210] = 255 - changed[100:230, 90:210]
    found = np.stack([FACE, FAR])
    one, other = compare_faces("a/b", found, Result(PICTURE, found), Result(changed, found))
    psnr = [{m.metric: m.value for m in face.measurements}["psnr"] for face in (one, other)]
    assert psnr[0] < 20
    assert psnr[1] == math.inf


def test_faces_lost_and_faces_never_seen_are_told_apart() -> None:
    nobody = np.zeros((0, 5, 2))
    (lost,) = compare_faces("a/b", FACE[None], Result(PICTURE, FACE[None]), Result(PICTURE, FAR[None]))
    (unseen,) = compare_faces("a/b", FACE[None], Result(PICTURE, nobody), Result(PICTURE, FACE[None]))
    assert lost.shift_px == math.inf
    assert math.isnan(unseen.shift_px)


def test_a_face_is_the_same_within_half_the_distance_of_its_eyes() -> None:
    assert nearest(FACE, (FACE + np.array([30, 0]))[None]) is not None
    assert nearest(FACE, (FACE + np.array([31, 0]))[None]) is None
    assert nearest(FACE, np.zeros((0, 5, 2))) is None
