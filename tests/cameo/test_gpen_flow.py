"""GPEN's photo flow: the original's numbers, crowds, odd photos and bundles with parts missing."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cameo.errors import BundleError, CameoError, PhotoError, RequestError
from cameo.faces import Face, alignment, paste
from cameo.faces.restoring import FaceRestorer
from cameo.flows import gpen
from cameo.flows.gpen import ENLARGER, FINDER, GENERATOR, PARSER, GpenFlow
from cameo.loading import told_apart
from cameo.testing import FakeSession, image_session
from cameo.tiles import Enlarger
from tests.support import fill
from tests.support.doors import Door, Finds, opened
from tests.support.golden import golden

SIZE = 64
TEMPLATE = alignment.square_template(SIZE, 2 / 3)
PHOTO = fill.smooth_u8("gpen/photo", 200, 300)


def face_at(scale: float, left: float, top: float, degrees: float = 0.0, score: float = 1.0, box: float = 200) -> Face:
    """A face whose crop is the square of 64 x `scale` pixels at (left, top), turned; `box` is its box's side."""
    crop_to_photo = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), degrees, scale)
    crop_to_photo[:, 2] += (left + SIZE / 2 * (scale - 1), top + SIZE / 2 * (scale - 1))
    return Face(np.array([0, 0, box, box], np.float32), score, None, alignment.transform(crop_to_photo, TEMPLATE))


def invert() -> FakeSession:
    return image_session(lambda image: 255 - image)


def parser(part: int = 1) -> FakeSession:
    """Sees `part` in the middle half of every crop, and background around it."""
    logits = np.zeros((1, 19, 512, 512), np.float32)
    logits[:, 0] = 1
    logits[:, part, 128:384, 128:384] = 2
    return FakeSession(lambda image: {"mask": logits.repeat(len(image), axis=0)})


def flow_with(faces, generator=None, parsed=None, enlarger=None, size=SIZE, **chosen) -> Door:
    options, request = told_apart(gpen, chosen, ())
    restorer = FaceRestorer(generator or invert(), size, parsed)
    return Door(gpen, GpenFlow(restorer, Finds(*faces), enlarger, options), request)


def paste_whole(photo: np.ndarray, pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """What the original does: every face and mask warped onto the whole photo, mixed once at the end."""
    size = photo.shape[1::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    full_mask, full_image = np.zeros(photo.shape[:2], np.float32), np.zeros_like(photo)
    for face, mask, to_crop in pieces:
        rows, columns = paste.border_fades(to_crop, len(face), photo.shape[:2])
        warped = cv2.warpAffine(mask, to_crop, size, flags=flags) * np.minimum(rows[:, None], columns)
        wins = warped > full_mask
        full_mask[wins] = warped[wins]
        full_image[wins] = cv2.warpAffine(face, to_crop, size, flags=flags)[wins]
    share = full_mask[..., None]
    return cv2.convertScaleAbs(photo * (1 - share) + full_image * share)


FACES = {
    "inside": [face_at(2, 60, 20)],
    "turned": [face_at(1.5, 90, 60, degrees=35)],
    "overlapping": [face_at(1.5, 60, 20), face_at(1.2, 100, 50, 20), face_at(2.5, 30, 30, -10)],
    "over the corners": [face_at(2, -60, -40), face_at(2, 250, 150, 15)],
    "outside": [face_at(1, 400, 20), face_at(1, -90, -90)],
    "larger than the photo": [face_at(9, -100, -150, 5)],
    "tiny": [face_at(0.1, 50, 50), face_at(0.08, 150, 80)],
}


@pytest.mark.parametrize("faces", FACES.values(), ids=FACES)
def test_faces_are_pasted_as_into_the_whole_photo(faces):
    mask = paste.face_mask(parser().run({"image": np.zeros((1, 512, 512, 3))})["mask"][0], SIZE)
    pieces = []
    for face in faces:
        to_crop = alignment.similarity_in_crop_frame(face.five_points.astype(np.float32), TEMPLATE)
        pieces.append((255 - alignment.crop(PHOTO, to_crop, SIZE), mask, to_crop))
    result = flow_with(faces, parsed=parser())(PHOTO)
    expected = paste_whole(PHOTO, pieces)
    # float masks may differ by 1e-7, where OpenCV interpolates several at once: enough to turn an exact half, and in
    # the original to speckle faces that overlap where both masks are 1
    error = np.abs(result.astype(int) - expected)
    assert error.max() <= 1
    assert (error > 0).mean() < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_region_of_a_warp_is_the_region_of_the_warp(seed):
    rng = np.random.default_rng(seed)
    matrix = cv2.getRotationMatrix2D((32, 32), rng.uniform(0, 360), rng.uniform(0.2, 3)) - [[0, 0, 40], [0, 0, 30]]
    image = fill.image_u8("warp", SIZE, SIZE)
    whole = cv2.warpAffine(image, matrix, (300, 200), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    rows, columns = slice(17, 150), slice(31, 260)
    np.testing.assert_array_equal(paste.warp_region(image, matrix, rows, columns), whole[rows, columns])
    reached = np.zeros_like(whole)
    reached[paste.reach(matrix, SIZE, (200, 300))] = 1
    assert not (whole * (1 - reached)).any()


def test_a_face_larger_than_a_block_is_pasted_whole():
    photo = np.zeros((1100, 2100, 3), np.uint8)
    result = flow_with([face_at(40, -200, -700)])(photo)
    inside = slice(40, -40)  # 8 of 512 pixels of a crop of 2560 fade
    assert (result[inside, inside] == 255).all()


@pytest.mark.parametrize("left", [100, 33000, 39900, 50000])
def test_faces_of_photos_wider_than_opencv_can_warp(left):
    photo = fill.smooth_u8("gpen/photo", 100, 1).repeat(40000, axis=1)
    result = flow_with([face_at(1, left, 20)])(photo)
    expected = photo if left > 40000 else 255 - photo
    inside = slice(left + 20, left + 40)
    np.testing.assert_array_equal(result[45:60, inside], expected[45:60, inside])
    np.testing.assert_array_equal(result[:, 500:30000], photo[:, 500:30000])


def test_the_first_of_equal_masks_wins():
    values = iter((100, 200))
    generator = image_session(lambda image: np.stack([np.full_like(one, next(values)) for one in image]))
    result = flow_with([face_at(2, 60, 20)] * 2, generator)(PHOTO)
    np.testing.assert_array_equal(result[80:90, 120:130], 100)


@pytest.mark.parametrize(("part", "shows"), [(0, False), (14, False), (18, False), (1, True), (13, True), (17, True)])
def test_background_hat_and_cloth_are_not_face(part, shows):
    result = flow_with([face_at(2, 60, 20)], parsed=parser(part))(PHOTO)
    assert (result[84, 124] == (255 - PHOTO if shows else PHOTO)[84, 124]).all()


def test_alpha_mixes_restored_and_crop():
    result = flow_with([face_at(2, 60, 20)], image_session(np.zeros_like), alpha=0.25)(np.full_like(PHOTO, 200))
    assert (result[84, 124] == 150).all()


def test_only_small_faces_are_smoothed():
    checkers = np.indices((SIZE, SIZE)).sum(axis=0)[None, ..., None].repeat(3, axis=-1) % 2 * 255
    generator = image_session(lambda image: checkers.astype(np.uint8).repeat(len(image), axis=0))
    for box, contrast in ((99, 1), (100, 255)):
        middle = flow_with([face_at(1, 60, 20, box=box)], generator)(PHOTO)[40:60, 80:100]
        assert np.ptp(middle) == pytest.approx(contrast, abs=1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (200, 300)])
def test_photo_without_a_face_is_unharmed(shape):
    photo = fill.smooth_u8("gpen/photo", *shape)
    restored = flow_with([]).run(photo)
    np.testing.assert_array_equal(restored.image, photo)
    assert not np.shares_memory(restored.image, photo)
    assert restored.faces == ()
    assert "No face" in restored.note


def test_faces_in_a_photo_of_one_pixel():
    half_faded = 9 + (246 - 9) // 2  # the pixel's middle is half a pixel from the border, and one pixel fades
    assert flow_with([face_at(1, -30, -30)])(np.full((1, 1, 3), 9, np.uint8)).tolist() == [[[half_faded] * 3]]


def test_unsure_faces_are_left_out():
    restored = flow_with([face_at(1, 60, 20, score=0.89)]).run(PHOTO)
    np.testing.assert_array_equal(restored.image, PHOTO)
    assert restored.faces == ()


def test_faces_without_a_place_are_left_as_they_are():
    nowhere = Face(np.array([0, 0, 9, 9], np.float32), 1.0, None, np.full((5, 2), 40.0))
    broken = Face(np.array([0, 0, 9, 9], np.float32), 1.0, None, np.full((5, 2), np.nan))
    restored = flow_with([nowhere, face_at(1, 60, 20), broken]).run(PHOTO)
    assert len(restored.faces) == 1
    assert "2 of 3 faces" in restored.note


@pytest.mark.parametrize(("built_for", "batches"), [((), [4, 4, 1]), ((1,), [1] * 9), ((2, 8), [2, 2, 2, 2, 1])])
def test_faces_run_in_batches(built_for, batches):
    generator = invert()
    generator.batches = built_for
    steps = []
    flow = flow_with([face_at(0.5, 10 * n, 20) for n in range(9)], generator)
    flow.run(PHOTO, progress=lambda *step: steps.append(step))
    assert [shape[0] for shape in generator.shapes] == batches
    assert steps == [(done, 9) for done in range(1, 10)]


def test_larger_networks_run_fewer_faces_at_once():
    generator = invert()
    flow_with([face_at(1, 60, 20)] * 3, generator, size=1024)(PHOTO)
    assert [shape[0] for shape in generator.shapes] == [1, 1, 1]


def test_memory_does_not_grow_with_the_number_of_faces():
    import tracemalloc

    def peak(count: int) -> int:
        flow = flow_with([face_at(0.3, 3 * n % 250, 20) for n in range(count)])
        tracemalloc.start()
        flow(PHOTO)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(4)
    assert peak(200) < peak(8) + 1e6


def test_aligned_photo_goes_through_the_generator_alone():
    photo = fill.smooth_u8("gpen/photo", 100, 80)
    result = flow_with([face_at(1, 60, 20)], aligned=True).run(photo)
    np.testing.assert_array_equal(result.image, 255 - cv2.resize(photo, (SIZE, SIZE)))
    assert result.note == "The whole photo was taken as one aligned face."
    (face,) = result.faces
    assert face.box.tolist() == [0, 0, SIZE, SIZE]
    np.testing.assert_allclose(face.five_points, TEMPLATE)


def test_alpha_mixes_an_aligned_face_too():
    photo = fill.smooth_u8("gpen/photo", SIZE, SIZE)
    np.testing.assert_array_equal(flow_with([], aligned=True, alpha=0.0)(photo), photo)


def crowd(count: int) -> list[Face]:
    return [face_at(0.3, 3 * n % 250, 20, score=1 - n / 10_000) for n in range(count)]


def test_no_more_than_a_hundred_faces_unless_asked_for():
    most = flow_with(crowd(130)).run(PHOTO)
    assert len(most.faces) == 100
    assert "the test knows found 130 faces: if the photo shows no such crowd, its network has the weights" in most.note
    assert "Of 130 faces only the 100 of the best score were restored: `max_faces` says how many." in most.note
    every = flow_with(crowd(130), max_faces=None).run(PHOTO)
    assert len(every.faces) == 130
    assert "only" not in every.note
    few = flow_with(crowd(3), max_faces=2).run(PHOTO)
    assert few.note == "Of 3 faces only the 2 of the best score were restored: `max_faces` says how many."


def test_a_finder_that_gives_as_many_as_it_can_may_have_missed_some():
    flow = flow_with(crowd(10))
    flow.flow._finder.most = 10
    assert "10 faces were found, as many as the faces that the test knows may find" in flow.run(PHOTO).note


def test_progress_of_enlarging_counts_tiles_before_faces():
    steps: list[tuple[int, int]] = []
    flow = flow_with([face_at(2, 60, 20)], enlarger=Enlarger(doubled(), 2, 128), sr=True)
    flow.run(PHOTO, lambda *step: steps.append(step))
    assert steps == [*((tile, 12) for tile in range(1, 13)), (1, 1)]


def doubled() -> FakeSession:
    return image_session(lambda image: image.repeat(2, axis=1).repeat(2, axis=2))


def test_enlarged_photo_carries_the_faces_of_the_enlarged_one():
    restored = flow_with([face_at(2, 60, 20)], enlarger=Enlarger(doubled(), 2, None), sr=True).run(PHOTO)
    assert restored.image.shape == (400, 600, 3)
    np.testing.assert_array_equal(restored.image[300:], PHOTO.repeat(2, axis=0).repeat(2, axis=1)[300:])
    linear = cv2.resize(PHOTO, (600, 400), interpolation=cv2.INTER_LINEAR)
    assert np.abs(restored.image[80:90, 120:130].astype(int) - (255 - linear[80:90, 120:130])).max() <= 3


def test_a_result_beyond_the_limit_is_refused():
    flow = flow_with([], enlarger=Enlarger(doubled(), 2, None), sr=True, max_pixels=100_000)
    with pytest.raises(PhotoError, match="600x400, 240,000 pixels, expected at most 100,000"):
        flow(PHOTO)


def test_bundle_without_finder_and_parser_says_what_stands_in():
    flow = opened(gpen, {f"{GENERATOR}64": invert()})
    assert [FINDER in flow.notes[0], PARSER in flow.notes[1]] == [True, True]
    np.testing.assert_array_equal(flow(PHOTO), PHOTO)


def test_bundle_with_all_networks_uses_them():
    nothing = FakeSession(
        lambda image: {"loc": np.zeros((1, 0, 4)), "conf": np.zeros((1, 0, 2)), "landms": np.zeros((1, 0, 10))}
    )
    sessions = {f"{GENERATOR}64": invert(), FINDER: nothing, PARSER: parser(), f"{ENLARGER}2": doubled()}
    flow = opened(gpen, sessions, sr=True, tile=None)
    assert flow.notes == []
    assert flow(PHOTO).shape == (400, 600, 3)
    assert nothing.shapes == [(1, 400, 600, 3)]


@pytest.mark.parametrize(
    ("sessions", "options", "error", "message"),
    [
        ({}, {}, BundleError, "no network gpen-bfr-SIZE"),
        ({f"{GENERATOR}64": invert()}, {"sr": True}, RequestError, "no network realesrnet-x1, -x2 or -x4"),
    ],
)
def test_bundle_without_a_wanted_network_is_refused(sessions, options, error, message):
    with pytest.raises(error, match=message):
        opened(gpen, sessions, **options)


@pytest.mark.parametrize(
    "options",
    [{"alpha": 1.1}, {"alpha": float("nan")}, {"tile": 130}, {"tile": 64}, {"max_faces": 0}, {"sr": 1}, {"size": 3}],
)
def test_bad_options_are_refused(options):
    with pytest.raises(CameoError, match=f"{next(iter(options))}"):
        opened(gpen, {f"{GENERATOR}64": invert()}, **options)


# What the original code makes of a photo with the networks' filled weights


@pytest.fixture(scope="module")
def original(shared_models: Path) -> dict[str, np.ndarray]:
    with np.load(shared_models / "expected" / "gpen_flow.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def networks() -> dict[str, FakeSession]:
    """The torch forms with filled weights, at the edges of their exports."""
    torch = pytest.importorskip("torch")
    from exporters.gpen.network import Architecture, FullGenerator
    from exporters.parsenet.network import ParseNet
    from exporters.realesrnet.network import RRDBNet
    from tests.support.filled_networks import filled

    generator, parsenet, rrdbnet = (
        filled(network) for network in (FullGenerator(Architecture.of(256, 0.5, 1)), ParseNet(), RRDBNet(2))
    )

    def channels_first(image: np.ndarray):
        return torch.tensor(image.astype(np.float32) / 255).permute(0, 3, 1, 2)

    def restore(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            levels = (generator((channels_first(image) - 0.5) / 0.5) * 0.5 + 0.5).clamp(0, 1) * 255
        return {"result": levels.permute(0, 2, 3, 1).numpy().astype(np.uint8)}

    def parse(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {"mask": parsenet(channels_first(image) * 2 - 1)[0].numpy()}

    def enlarge(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            levels = rrdbnet(channels_first(image)).clamp(0, 1) * 255
        return {"result": levels.permute(0, 2, 3, 1).round().numpy().astype(np.uint8)}

    # the parser is the slowest, and sees the same faces in several tests
    return {"generator": FakeSession(restore), "parser": remembering(parse), "rrdbnet": FakeSession(enlarge)}


def remembering(compute) -> FakeSession:
    """A session that computes every image once."""
    known: dict[bytes, dict[str, np.ndarray]] = {}

    def look_up(image: np.ndarray) -> dict[str, np.ndarray]:
        key = image.tobytes()
        if key not in known:
            known[key] = compute(image)
        return known[key]

    return FakeSession(look_up)


def original_faces(original, scale: int = 1) -> list[Face]:
    """The fixed detections; the third is too unsure. In the enlarged photo they are as much larger."""
    return [
        Face(box[:4], float(box[4]), None, points.reshape(2, 5).T.astype(np.float64)).scaled(scale, scale)
        for box, points in zip(original["dets"], original["landms"], strict=True)
    ]


@pytest.fixture
def tinting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected values are those of a photo without colour, which the original tints and Cameo does not."""
    monkeypatch.setattr("cameo.flows.gpen.as_colourless_as", lambda photo, result: result)


def original_flow(original, networks, **chosen) -> Door:
    enlarger = Enlarger(networks["rrdbnet"], 2, None)
    faces = original_faces(original, 2 if chosen.get("sr") else 1)
    return flow_with(faces, networks["generator"], networks["parser"], enlarger, 256, **chosen)


def bgr_error(expected: np.ndarray, result: np.ndarray) -> np.ndarray:
    return np.abs(result[..., ::-1].astype(int) - expected)


def source(original) -> np.ndarray:
    return np.ascontiguousarray(original["src_bgr"][..., ::-1])


def test_template_is_the_original_one():
    expected = golden("gpen_flow")["reference_5pts_256"]
    np.testing.assert_allclose(alignment.square_template(256, 2 / 3), expected, atol=1e-9)


def test_mask_is_the_original_one(original):
    logits = np.zeros((19, 512, 512), np.float32)
    logits[1] = original["step/parse_mask"] / 127.5 - 1
    mask = paste.face_mask(logits, 256)
    assert fill.compare(original, "step/mask_256", mask)["max_abs"] < 1e-6


@pytest.mark.heavy
@pytest.mark.usefixtures("tinting")
def test_restored_photo_is_the_original_one(original, networks):
    restored = original_flow(original, networks).run(source(original))
    error = bgr_error(original["nosr/out"], restored.image)
    assert len(restored.faces) == 2
    assert (error > 0).mean() < 1e-3
    assert (error > 1).mean() < 5e-5  # where the masks of the two faces are equal but for rounding


@pytest.mark.heavy
@pytest.mark.usefixtures("tinting")
def test_mixed_photo_is_the_original_one(original, networks):
    result = original_flow(original, networks, alpha=0.8)(source(original))
    report = fill.compare(original, "nosr_a08/out", result[..., ::-1])
    assert report["max_abs"] <= 1
    assert report["mean_abs"] < 1e-3


@pytest.mark.heavy
@pytest.mark.usefixtures("tinting")
def test_aligned_photo_is_the_original_one(original, networks):
    result = original_flow(original, networks, aligned=True)(source(original))
    error = bgr_error(original["aligned/out"], result)
    assert error.max() <= 1
    assert (error > 0).mean() < 1e-3


@pytest.mark.heavy
@pytest.mark.usefixtures("tinting")
def test_enlarged_photo_is_the_original_one(original, networks):
    result = original_flow(original, networks, sr=True)(source(original))
    report = fill.compare(original, "sr2/out", result[..., ::-1])
    error = bgr_error(original["sr2/out_crop_80_400_100_420"], result[80:400, 100:420])
    assert report["mean_abs"] < 5e-3
    assert (error > 0).mean() < 3e-3
    assert (error > 1).mean() < 3e-4  # where the masks of the two faces are equal but for rounding
