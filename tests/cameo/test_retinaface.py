"""RetinaFace's finder: the original's anchors, boxes and points, and what it does with crowds and odd photos."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cameo.faces.finders.retinaface import LARGEST_SIDE, SHRUNK_SIDE, RetinaFaceFinder, anchors_at, best, suppress
from cameo.testing import FakeSession
from tests.support import fill

STEPS = (8, 16, 32)


def number_of_anchors(height: int, width: int) -> int:
    return sum(2 * -(-height // step) * -(-width // step) for step in STEPS)


def all_anchors(height: int, width: int) -> np.ndarray:
    return anchors_at(np.arange(number_of_anchors(height, width)), (height, width))


class PlantedFaces(FakeSession):
    """A network that sees faces at given boxes: each at its nearest anchor, and again, less surely, at the next two."""

    def __init__(self, boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> None:
        self._faces = boxes, scores, points
        super().__init__(self._see)

    def _see(self, image: np.ndarray) -> dict[str, np.ndarray]:
        anchors = all_anchors(*image.shape[1:3])
        loc, landms = np.zeros((len(anchors), 4), np.float32), np.zeros((len(anchors), 10), np.float32)
        conf = np.full((len(anchors), 2), (1, 0), np.float32)
        for box, score, points in zip(*self._faces, strict=True):
            centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            distances = np.abs(anchors - [*centre, *sides]).max(axis=1) + 1e6 * conf[:, 1]
            for place, row in enumerate(np.argsort(distances)[:3]):
                anchor, size = anchors[row, :2], anchors[row, 2:]
                loc[row] = [*((centre - anchor) / size / 0.1), *(np.log(sides / size) / 0.2)]
                landms[row] = ((points - anchor) / size / 0.1).reshape(-1)
                conf[row] = (1 - score + 0.01 * place, score - 0.01 * place)
        return {"loc": loc[None], "conf": conf[None], "landms": landms[None]}


def crowd(columns: int, rows: int, side: int = 20, gap: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and points of faces in a grid, all scores different."""
    corners = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * (side + gap) + gap
    boxes = np.concatenate([corners, corners + side], axis=1).astype(np.float64)
    points = corners[:, None] + np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]) * side
    return boxes, np.random.default_rng(0).permutation(np.linspace(0.93, 0.99, len(boxes))), points


@pytest.fixture(scope="module")
def expected(shared_models: Path) -> dict[str, np.ndarray]:
    with np.load(shared_models / "expected" / "retinaface_r50.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def filled_network() -> FakeSession:
    """The torch form with filled weights, at the edges of the export."""
    torch = pytest.importorskip("torch")
    from exporters.retinaface.network import MEAN_BGR, RetinaFace

    network = RetinaFace().eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    network.load_state_dict({key: torch.tensor(array) for key, array in fill.fill_state_dict(shapes).items()})

    def compute(image: np.ndarray) -> dict[str, np.ndarray]:
        pixels = torch.tensor(image[..., ::-1] - np.array(MEAN_BGR, np.float32)).permute(0, 3, 1, 2)
        with torch.no_grad():
            return dict(zip(("loc", "conf", "landms"), (out.numpy() for out in network(pixels)), strict=True))

    return FakeSession(compute)


def assert_same_faces(finder: RetinaFaceFinder, image: np.ndarray, rows: np.ndarray, points: np.ndarray, atol: float):
    """`points` are x1..x5, y1..y5; rows may come in another order only where scores are all but equal."""
    found = finder.detect(image)
    assert len(found.scores) == len(rows)
    nearest = np.abs(found.boxes[:, None] - rows[None, :, :4]).max(axis=2).argmin(axis=1)
    assert len(set(nearest.tolist())) == len(rows), "each is found once"
    np.testing.assert_allclose(found.scores, rows[:, 4], atol=2e-5)
    np.testing.assert_allclose(found.scores, rows[nearest, 4], atol=2e-5)
    np.testing.assert_allclose(found.boxes, rows[nearest, :4], atol=atol)
    np.testing.assert_allclose(found.points.transpose(0, 2, 1).reshape(-1, 10), points[nearest], atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.9, 0.5])
def test_faces_are_the_original_ones(filled_network, expected, threshold):
    image = np.ascontiguousarray(expected["photo/bgr"][..., ::-1])
    rows, points = expected[f"photo/dets_{threshold}"], expected[f"photo/landms_{threshold}"]
    assert_same_faces(RetinaFaceFinder(filled_network, threshold), image, rows, points, atol=1e-3)


def test_anchors_are_the_original_ones(expected):
    height, width = expected["photo/bgr"].shape[:2]
    priors = expected["photo/priors"] * (width, height, width, height)
    np.testing.assert_allclose(all_anchors(height, width), priors, rtol=1e-6)


def test_a_large_photo_is_shrunk_and_its_scores_stay_scores(filled_network, expected):
    """The original divides scores by the scale, and does not round the shrunk photo: the network here sees floats."""
    height, width = (int(side) for side in expected["photo_big/hw"])
    image = cv2.resize(expected["photo_big/bgr_src"], (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    scale = SHRUNK_SIDE / height
    floats = cv2.resize(image.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)

    def compute(shrunk: np.ndarray) -> dict[str, np.ndarray]:
        np.testing.assert_allclose(shrunk[0], floats, atol=1)
        return filled_network.run({"image": floats[None]})

    rows = expected["photo_big/dets_0.9"] * (1, 1, 1, 1, scale)
    finder = RetinaFaceFinder(FakeSession(compute))
    assert_same_faces(finder, np.ascontiguousarray(image), rows, expected["photo_big/landms_0.9"], atol=5e-3)


def test_planted_faces_are_found_best_first():
    boxes, scores, points = crowd(4, 3)
    faces = RetinaFaceFinder(PlantedFaces(boxes, scores, points))(np.zeros((130, 141, 3), np.uint8))
    order = np.argsort(-scores)
    np.testing.assert_allclose([face.box for face in faces], boxes[order], atol=1e-3)
    np.testing.assert_allclose([face.score for face in faces], scores[order], atol=1e-6)
    np.testing.assert_allclose([face.five_points for face in faces], points[order], atol=1e-3)
    assert all(face.landmarks is None for face in faces)


@pytest.mark.slow
def test_hundreds_of_faces_are_found_but_not_more_than_750():
    boxes, scores, points = crowd(40, 20)
    found = RetinaFaceFinder(PlantedFaces(boxes, scores, points)).detect(np.zeros((600, 1200, 3), np.uint8))
    assert len(boxes) == 800
    np.testing.assert_allclose(found.boxes, boxes[np.argsort(-scores)[:750]], atol=1e-3)


def test_faces_of_a_shrunk_photo_are_in_pixels_of_the_photo():
    boxes, scores, points = crowd(4, 3)
    network = PlantedFaces(boxes, scores, points)
    found = RetinaFaceFinder(network).detect(np.zeros((400, 2000, 3), np.uint8))
    assert network.shapes == [(1, 200, 1000, 3)]
    np.testing.assert_allclose(found.boxes, boxes[np.argsort(-scores)] * 2, atol=2e-3)
    np.testing.assert_allclose(found.points, points[np.argsort(-scores)] * 2, atol=2e-3)


def test_a_photo_of_the_largest_side_is_not_shrunk():
    network = PlantedFaces(*crowd(1, 1))
    RetinaFaceFinder(network).detect(np.zeros((50, LARGEST_SIDE, 3), np.uint8))
    assert network.shapes == [(1, 50, LARGEST_SIDE, 3)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (31, 7)])
def test_photos_without_faces_have_none(shape):
    nothing = PlantedFaces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
    assert RetinaFaceFinder(nothing)(np.zeros((*shape, 3), np.uint8)) == []


def test_best_are_sorted_and_ties_keep_their_order():
    assert best(np.array([0.9, 0.95, 0.2, 0.99, 0.95], np.float32), 0.9).tolist() == [3, 1, 4]


def test_overlap_counts_the_last_pixel():
    """3 x 3 and 3 x 5 pixels share 3 x 3: IoU 9 / 15; without the + 1 it would be 4 / 8."""
    boxes = np.array([(0, 0, 2, 2), (0, 0, 2, 4)], np.float32)
    assert suppress(boxes, iou=0.55, most=10).tolist() == [0]
    assert suppress(boxes, iou=0.61, most=10).tolist() == [0, 1]


def test_a_suppressed_box_suppresses_nothing():
    boxes = np.array([(0, 0, 99, 99), (40, 0, 139, 99), (80, 0, 179, 99)], np.float32)
    assert suppress(boxes, iou=0.45, most=10).tolist() == [0, 1, 2]
    assert suppress(boxes, iou=0.3, most=10).tolist() == [0, 2]
    assert suppress(boxes, iou=0.3, most=1).tolist() == [0]
