from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cameo.errors import BundleError, CameoError, PhotoError
from cameo.faces import Face, alignment
from cameo.faces.finders.dctnet import DETECTOR, LANDMARKS
from cameo.faces.pupils import five_points
from cameo.flows import dctnet
from cameo.flows.dctnet import (
    BACKGROUND,
    HEAD,
    HEAD_TEMPLATE,
    MULTIPLE,
    DctNetFlow,
    Networks,
    Options,
    working_size,
)
from cameo.testing import FakeSession, image_session
from tests.support import fill
from tests.support.doors import Door, Finds, opened
from tests.support.golden import golden

PHOTO = fill.smooth_u8("dctnet/photo", 300, 420)
ALPHA = fill.smooth_u8("dctnet/alpha", 256, 256, 1)[..., 0]


def face_at(scale: float, left: float, top: float, degrees: float = 0.0) -> Face:
    """A face whose head crop is the square of 288 x `scale` pixels at (left, top), turned."""
    crop_to_image = cv2.getRotationMatrix2D((144, 144), degrees, scale)
    crop_to_image[:, 2] += (left + 144 * (scale - 1), top + 144 * (scale - 1))
    points = alignment.transform(crop_to_image, HEAD_TEMPLATE)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(np.concatenate([low, high]).astype(np.float32), 1.0, None, points)


def test_head_template_shows_all_of_the_hair():
    # ((30.29459953 + 8 + 1 - 56) * 0.75 + 56) * 288 / 112 and ((51.69630051 + 1 - 56) * 0.75 + 56) * 288 / 112
    np.testing.assert_allclose(HEAD_TEMPLATE[0], (111.782442, 137.628579), atol=1e-5)


def invert() -> FakeSession:
    return image_session(lambda image: 255 - image)


def constant(value: int) -> FakeSession:
    return image_session(lambda image: np.full_like(image, value))


def counting(first: int, step: int) -> FakeSession:
    """Paints its first image `first`, its second `first + step` and so on, over all runs."""
    values = iter(range(first, 256, step))
    return image_session(lambda image: np.stack([np.full_like(one, next(values)) for one in image]))


def flow_with(faces, background=None, head=None, alpha=ALPHA, **options) -> Door:
    background, head = background or invert(), head or constant(200)
    return Door(dctnet, DctNetFlow(Networks(background, head), Finds(*faces), alpha, Options(**options)))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 50), (50, 1), (16, 16), (17, 33), (16, 33), (300, 421), (720, 721), (721, 900), (30, 2999)]
)
def test_result_has_the_photos_size_and_the_background_multiples_of_16(shape):
    background = invert()
    photo = fill.smooth_u8("dctnet/photo", *shape)
    result = flow_with([], background)(photo)
    assert (result.shape, result.dtype) == ((*shape, 3), np.uint8)
    height, width = background.shapes[0][1:3]
    assert (height % 16, width % 16) == (0, 0)
    if min(shape) <= 720:
        np.testing.assert_array_equal(result, 255 - photo)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((720, 720, 720), (720, 720)),
        ((760, 800, 720), (720, 757)),
        ((800, 760, 720), (757, 720)),
        ((4000, 3000, 720), (960, 720)),
        ((12000, 1000, 720), (3000, 250)),
        ((500, 20000, 720), (75, 3000)),
        ((100000, 1, 720), (3000, 1)),
        ((2999, 3000, None), (2999, 3000)),
        ((6000, 4000, None), (3000, 2000)),
        ((6000, 4000, 512), (768, 512)),
    ],
)
def test_working_size(size, expected):
    assert working_size(*size) == expected


@pytest.mark.parametrize(
    ("shape", "padded"), [((32, 48), (32, 48)), ((757, 720), (768, 720)), ((300, 420), (304, 432)), ((1, 1), (16, 16))]
)
def test_background_sees_the_photo_mirrored_where_a_side_is_no_multiple_of_16(shape, padded):
    seen = []
    background = image_session(lambda image: seen.append(image[0]) or image)
    photo = fill.smooth_u8("dctnet/photo", *shape)
    flow_with([], background, size=None)(photo)
    beyond = [(0, padded[axis] - shape[axis]) for axis in (0, 1)]
    np.testing.assert_array_equal(seen[0], np.pad(photo, (*beyond, (0, 0)), "reflect"))


@pytest.mark.parametrize(
    "face",
    [face_at(0.5, 60, 20), face_at(0.3, 200, 150, degrees=25), face_at(1.5, -50, -70, -10), face_at(0.7, 350, 200)],
    ids=["inside", "turned", "larger than the photo", "over the corner"],
)
def test_head_is_blended_by_the_mask_where_the_face_is(face):
    photo = fill.smooth_u8("dctnet/photo", 300, 420)
    flow = flow_with([face], head=invert(), background=constant(90))
    to_crop = alignment.similarity_in_image_frame(face.five_points, HEAD_TEMPLATE)
    head = 255 - alignment.crop(photo, to_crop, 288)
    mask = cv2.resize(ALPHA, (288, 288), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    back = alignment.invert(to_crop)
    mask = cv2.warpAffine(mask, back, (420, 300))[..., None]
    painted = cv2.warpAffine(head, back, (420, 300), borderMode=cv2.BORDER_REPLICATE)
    expected = mask * painted + (1 - mask) * 90  # over the whole photo
    canvas = flow.paint(photo, flow.find_faces(photo))
    assert canvas.dtype == np.float32
    np.testing.assert_array_equal(canvas, expected.astype(np.float32))
    np.testing.assert_array_equal(flow(photo), np.rint(expected).astype(np.uint8))


def test_inverted_head_appears_in_place():
    photo = fill.smooth_u8("dctnet/photo", 300, 420)
    identity = image_session(lambda image: image)
    result = flow_with([face_at(1.0, 60, 6)], identity, invert(), np.full((288, 288), 255, np.uint8))(photo)
    np.testing.assert_array_equal(result[10:290, 64:340], 255 - photo[10:290, 64:340])
    np.testing.assert_array_equal(result[:, :56], photo[:, :56])
    np.testing.assert_array_equal(result[:, 352:], photo[:, 352:])


def test_smaller_faces_lie_over_larger_ones():
    opaque = np.full((288, 288), 255, np.uint8)
    small, large = face_at(0.4, 100, 80), face_at(0.9, 60, 20)
    result = flow_with([small, large], constant(0), counting(100, 50), opaque)(np.zeros((300, 420, 3), np.uint8))
    assert (result[130:140, 150:160] == 150).all()
    assert (result[30:60, 100:200] == 100).all()


def test_heads_run_in_bounded_batches():
    head = constant(200)
    flow_with([face_at(0.3, 20 * i, 10) for i in range(6)], head=head)(np.zeros((100, 300, 3), np.uint8))
    assert [shape[0] for shape in head.shapes] == [4, 2]
    head = constant(200)
    head.batches = (1,)
    flow_with([face_at(0.3, 20 * i, 10) for i in range(3)], head=head)(np.zeros((100, 300, 3), np.uint8))
    assert [shape[0] for shape in head.shapes] == [1, 1, 1]


def test_without_faces_the_head_network_rests():
    head = constant(200)
    flow_with([], head=head)(np.zeros((30, 30, 3), np.uint8))
    assert head.shapes == []


class Watching(Finds):
    """Finds its faces, and remembers the sizes of what it looked at."""

    def __init__(self, *faces: Face) -> None:
        super().__init__(*faces)
        self.seen: list[tuple[int, int]] = []

    def __call__(self, image):
        self.seen.append(image.shape[:2])
        return super().__call__(image)


@pytest.mark.parametrize("size", [96, 720, 1100, None])
def test_faces_are_looked_for_at_one_size_whatever_networks_work_at(size):
    finder = Watching(face_at(0.5, 100, 60))
    photo = fill.smooth_u8("dctnet/photo", 1200, 1600)
    flow = Door(dctnet, DctNetFlow(Networks(constant(90), constant(200)), finder, ALPHA, Options(size=size)))
    outcome = flow.run(photo)
    assert finder.seen == [(720, 960)]
    np.testing.assert_allclose(outcome.faces[0].box, finder.faces[0].box * 1200 / 720, rtol=1e-5)
    np.testing.assert_allclose(flow.find_faces(photo)[0].five_points, outcome.faces[0].five_points)
    rows, columns = (slice(int(low) * 5 // 3 + 20, int(high) * 5 // 3 - 20) for low, high in ((60, 204), (100, 244)))
    assert outcome.image[rows, columns].mean() > 95, "the head is where the face is"
    assert (outcome.image[700:] == 90).all()


def test_a_photo_without_faces_says_so():
    assert flow_with([]).run(PHOTO).note == "No face was found: all of the photo was drawn as background."
    assert flow_with([face_at(0.5, 60, 20)]).run(PHOTO).note == ""


def test_large_photo_works_small_and_comes_back_large():
    photo = fill.smooth_u8("dctnet/photo", 1000, 800)
    background = image_session(lambda image: image)
    result = flow_with([face_at(0.5, 60, 20)], background).run(photo)
    assert background.shapes == [(1, 912, 720, 3)]  # 900 x 720
    assert result.image.shape == photo.shape
    np.testing.assert_allclose(result.faces[0].five_points, face_at(0.5, 60, 20).five_points * (800 / 720), rtol=1e-6)
    assert np.abs(result.image[400:].astype(int) - photo[400:]).mean() < 2


def test_full_size_is_not_shrunk_below_the_limit():
    background = image_session(lambda image: image)
    photo = fill.smooth_u8("dctnet/photo", 800, 1008)
    np.testing.assert_array_equal(flow_with([], background, size=None)(photo), photo)
    flow_with([], background, size=None)(np.zeros((100, 4000, 3), np.uint8))
    assert [shape[1:3] for shape in background.shapes] == [(800, 1008), (80, 3008)]


def test_any_photo_is_taken(tmp_path):
    gray = fill.smooth_u8("dctnet/gray", 40, 30, 1)[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    for photo in (gray, Image.fromarray(gray), tmp_path / "gray.png", (tmp_path / "gray.png").read_bytes()):
        np.testing.assert_array_equal(flow_with([])(photo), 255 - np.dstack([gray] * 3))


def test_photo_beyond_the_limit_is_refused():
    with pytest.raises(PhotoError, match="expected at most 99"):
        flow_with([], max_pixels=99)(np.zeros((10, 10, 3), np.uint8))


def test_photo_is_left_alone():
    photo = fill.smooth_u8("dctnet/photo", 300, 420)
    before = photo.copy()
    result = flow_with([face_at(0.5, 60, 20)], image_session(lambda image: image))(photo)
    np.testing.assert_array_equal(photo, before)
    assert not np.shares_memory(result, photo)


def test_default_mask_shows_the_middle_and_fades_to_the_rim():
    opaque_head = flow_with([face_at(1.0, 0, 0)], constant(0), constant(255), alpha=None)
    shown = opaque_head(np.zeros((288, 288, 3), np.uint8))[..., 0].astype(int)
    assert shown[144, 144] == 255
    assert shown[0].max() == shown[-1].max() == shown[:, 0].max() == shown[:, -1].max() == 0
    assert (np.diff(shown[144, :144]) >= 0).all()
    assert 0 < shown[144, 40] < 255


@pytest.mark.parametrize("options", [{"size": 0}, {"size": "720"}, {"size": True}, {"size": 3001}, {"max_pixels": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(CameoError, match=f"Option `{next(iter(options))}` of dctnet is .* expected a whole number"):
        Options(**options)


def all_sessions() -> dict[str, FakeSession]:
    return {name: invert() for name in (BACKGROUND, HEAD, DETECTOR, LANDMARKS)}


def test_complete_bundle_opens_without_notes(tmp_path):
    Image.fromarray(ALPHA).save(tmp_path / "alpha.png")
    flow = opened(dctnet, all_sessions(), {"alpha": tmp_path / "alpha.png"}, size=None)
    assert flow.notes == []
    assert flow.options == Options(size=None)
    cartoon, finder = "DCT-Net cartoon at the photo's size", "faces by the detector of DCT-Net"
    assert flow.describe() == f"{cartoon}, long side at most 3000 px, {finder}"


def test_alpha_may_be_a_colour_image():
    coloured = np.dstack([ALPHA] * 3)
    gray, colour = (flow_with([face_at(0.5, 60, 20)], alpha=alpha) for alpha in (ALPHA, coloured))
    photo = fill.smooth_u8("dctnet/photo", 300, 420)
    np.testing.assert_array_equal(gray(photo), colour(photo))


@pytest.mark.parametrize("missing", [{DETECTOR}, {LANDMARKS}, {DETECTOR, LANDMARKS}])
def test_cascades_stand_in_and_the_notes_say_so(missing):
    sessions = {name: session for name, session in all_sessions().items() if name not in missing}
    flow = opened(dctnet, sessions)
    assert any("Haar cascades stand in" in note and all(name in note for name in missing) for note in flow.notes)
    assert any("ellipse" in note for note in flow.notes)
    assert "short side of at most 720 px" in flow.describe()
    assert "cascades" in flow.describe()


def test_bundle_without_a_generator_is_refused():
    with pytest.raises(BundleError, match="no network dctnet-head"):
        opened(dctnet, {BACKGROUND: invert()})


def test_unknown_option_is_named():
    for sessions, known in (
        (all_sessions(), "`max_pixels`, `max_side`, `size`, `size_rule`."),
        ({**all_sessions(), "realesrnet-x2": invert()}, "`max_pixels`, `max_side`, `size`, `size_rule`, `sr`, `tile`."),
    ):
        with pytest.raises(CameoError, match=f"no option `short_side`, expected one of {known}"):
            opened(dctnet, sessions, short_side=3)


def test_cascades_put_the_head_on_the_astronaut():
    photo = pytest.importorskip("skimage.data").astronaut()
    sessions = {BACKGROUND: image_session(lambda image: image), HEAD: invert()}
    result = opened(dctnet, sessions).run(photo)
    assert len(result.faces) == 1
    np.testing.assert_array_equal(result.image[300:], photo[300:])
    forehead = (slice(85, 95), slice(215, 230))
    assert np.abs(result.image[forehead].astype(int) - (255 - photo[forehead])).mean() < 3


# ---- against what the original flow computed -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(shared_models: Path):
    with np.load(shared_models / "expected" / "dctnet_flow.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def generators(shared_models: Path):
    pytest.importorskip("tensorflow")
    from tests.support.frozen_sessions import open_generators

    background, head = open_generators(shared_models / "dctnet")
    with background, head:
        yield background, head


def white_crop(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The original's head crop: white where the photo ends."""
    return cv2.warpAffine(image, matrix, (size, size), borderValue=(255, 255, 255))


def white_padding(image: np.ndarray, multiple: int = MULTIPLE) -> np.ndarray:
    """The original's padding: white, and of an aligned side too if the other needs some."""
    height, width = image.shape[:2]
    sides = multiple - height % multiple, multiple - width % multiple
    return cv2.copyMakeBorder(image, 0, sides[0], 0, sides[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))


@pytest.fixture
def white_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameo goes on with the mirrored photo; with the original's white, the numbers are the original's."""
    monkeypatch.setattr("cameo.flows.dctnet.crop", white_crop)
    monkeypatch.setattr("cameo.flows.dctnet.pad_to_multiple", white_padding)


def original_flow(original, generators, finder) -> Door:
    alpha = np.rint(original["global_mask"] * 255).astype(np.uint8)
    return Door(dctnet, DctNetFlow(Networks(*generators), finder, alpha))


def find_fixed(original, name):
    landmarks = original[f"{name}/landmarks"]

    image = original["in/photo_300x420_rgb"]
    boxes = np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1)], axis=1)
    return Finds(*(Face(box, 1.0, each, five_points(image, each)) for box, each in zip(boxes, landmarks, strict=True)))


def check_against(original, name, flow, allowed_share) -> None:
    """The canvas may be off by one level in a share of the values, where TensorFlow or the warp rounds differently."""
    photo = original["in/photo_300x420_rgb"]
    assert white_padding(photo).shape == tuple(original[f"{name}/pad_shape"][:3])
    canvas = flow.paint(photo, flow.find_faces(photo))
    error = np.abs(canvas[..., ::-1] - original[f"{name}/out/full"].astype(np.float64))
    half_float = 0.13  # what float16 loses on values up to 255
    assert error.max() <= 1 + half_float
    assert (error > half_float).mean() <= allowed_share
    assert fill.compare(original, f"{name}/out", canvas[..., ::-1])["mean_abs"] < 2e-3
    np.testing.assert_array_equal(flow(photo), np.rint(canvas).astype(np.uint8))


@pytest.mark.slow
@pytest.mark.usefixtures("white_borders")
def test_photo_without_faces_is_the_original_one(original, generators):
    check_against(original, "noface/photo_300x420", original_flow(original, generators, Finds()), 1e-4)


@pytest.mark.slow
def test_photo_without_faces_is_the_original_one_but_for_the_padded_borders(original, generators):
    canvas = original_flow(original, generators, Finds()).paint(original["in/photo_300x420_rgb"], [])
    error = np.abs(canvas[..., ::-1].astype(float) - original["noface/photo_300x420/out/full"])
    assert error[:-50, :-50].max() <= 1
    assert (error[:-50, :-50] > 0).mean() < 1e-4
    assert error.max() > 8


@pytest.mark.slow
@pytest.mark.usefixtures("white_borders")
def test_fixed_faces_are_the_original_ones(original, generators):
    name = "fixed/photo_300x420"
    find = find_fixed(original, name)
    faces = find(original["in/photo_300x420_rgb"])
    np.testing.assert_array_equal([face.five_points for face in faces], original[f"{name}/f5p"])
    check_against(original, name, original_flow(original, generators, find), 1e-3)


def test_head_crop_is_the_original_one(original):
    name = "fixed/photo_300x420"
    to_crop = alignment.similarity_in_image_frame(original[f"{name}/f5p"][0], HEAD_TEMPLATE)
    np.testing.assert_allclose(alignment.invert(to_crop), original[f"{name}/trans_inv0"], atol=2e-5)
    head = white_crop(original["in/photo_300x420_rgb"], to_crop, 288)
    error = np.abs(head.astype(int) - original[f"{name}/head0_rgb"])
    assert error.max() <= 8  # the matrices differ by 1e-5 px: a few pixels fall to the next 1/32 px of the warp
    assert (error > 0).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("white_borders")
def test_faces_found_by_the_networks_are_the_original_ones(shared_models, original, generators):
    from cameo.faces.finders.dctnet import FaceFinder
    from tests.support.frozen_sessions import open_companions

    detector, landmarks = open_companions(shared_models / "dctnet")
    with detector, landmarks:
        flow = original_flow(original, generators, FaceFinder(detector, landmarks))
        check_against(original, "standin/photo_300x420", flow, 2e-3)


def test_shrunk_photo_has_the_original_geometry(original):
    name = "fixed/photo_800x760"  # its photo is not stored; its sizes and points are
    width, height = working_size(760, 800, 720)
    assert (height, width) == tuple(original[f"{name}/pad_shape"][3:])
    padded = white_padding(np.zeros((height, width, 3), np.uint8))
    assert padded.shape == tuple(original[f"{name}/pad_shape"][:3])
    to_crop = alignment.similarity_in_image_frame(original[f"{name}/f5p"][0], HEAD_TEMPLATE)
    np.testing.assert_allclose(alignment.invert(to_crop), original[f"{name}/trans_inv0"], atol=2e-5)


def test_default_ellipse_resembles_the_mask_of_the_expected_values():
    flow = flow_with([face_at(1.0, 0, 0)], constant(0), constant(255), alpha=None)
    ours = flow(np.zeros((288, 288, 3), np.uint8))[..., 0] / 255
    assert fill.compare(golden("dctnet_flow"), "global_mask", ours)["mean_abs"] < 0.03
