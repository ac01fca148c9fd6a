"""Face fusion's flow: where it changes the template, odd photos, bundles with parts missing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from cameo.errors import BundleError, CameoError
from cameo.faces import Face, alignment
from cameo.faces.finders.dctnet import DETECTOR, LANDMARKS
from cameo.faces.sampling import sample_region
from cameo.flows import face_fusion
from cameo.flows.face_fusion import ENHANCER, GENERATOR, RECOGNISER, SHAPES, Options, Request, open_flow
from cameo.testing import FakeSession, image_session
from tests.cameo.flows.fusion_parts import (
    FACE,
    PLACES,
    SHARES,
    TEMPLATE,
    TWO,
    changed,
    face_at,
    flow_with,
    fuse,
    inverting,
    painting,
    parser,
    recogniser,
    shapes,
    unchanged,
)
from tests.support import fill


@pytest.mark.parametrize("face", PLACES.values(), ids=PLACES)
def test_the_fused_crop_lies_where_the_mask_shows_it(face):
    flow = flow_with([face], alpha=SHARES)
    (fusion,) = flow.stages({"template": TEMPLATE, "face": FACE}, Request()).fusions
    np.testing.assert_array_equal(fusion.fused, 255 - fusion.crop)
    everywhere = slice(0, TEMPLATE.shape[0]), slice(0, TEMPLATE.shape[1])
    mask = sample_region(SHARES[..., None] / np.float32(255), fusion.to_crop, *everywhere)
    painted = sample_region(fusion.fused, fusion.to_crop, *everywhere)
    expected = np.rint(mask * painted + (1 - mask) * TEMPLATE).astype(int)
    image = fuse(flow).image
    assert np.abs(image - expected).max() <= 1  # float32 in another order
    assert (image != expected).mean() < 1e-4
    np.testing.assert_array_equal(image[mask[..., 0] == 0], TEMPLATE[mask[..., 0] == 0])


@pytest.mark.parametrize("face", PLACES.values(), ids=PLACES)
def test_beyond_the_enhancers_crop_the_template_keeps_its_bits(face):
    flow = flow_with([face], enhancer=image_session(lambda image: 255 - image))
    outcome = fuse(flow)
    (place,) = outcome.faces
    corners = np.array([(-1, -1), (64, -1), (64, 64), (-1, 64)], np.float64)
    square = alignment.similarity_in_crop_frame(
        place.five_points.astype(np.float32), alignment.square_template(64, 2 / 3)
    )
    reached = np.zeros(TEMPLATE.shape[:2], np.uint8)
    cv2.fillConvexPoly(reached, np.rint(alignment.transform(alignment.invert(square), corners)).astype(np.int32), 1)
    reached = cv2.dilate(reached, np.ones((5, 5), np.uint8))
    assert changed(outcome.image).any()
    assert not changed(outcome.image)[reached == 0].any()


def test_channels_of_a_coloured_mask_are_exchanged():
    """As in the original: the mask's blue says where the picture's red shows."""
    image = fuse(flow_with(alpha=np.full((256, 256, 3), (0, 0, 255), np.uint8))).image
    inside = slice(110, 150), slice(180, 220)
    np.testing.assert_array_equal(image[inside][..., 1:], TEMPLATE[inside][..., 1:])
    assert (image[inside][..., 0] != TEMPLATE[inside][..., 0]).mean() > 0.9


def test_grid_sample_is_reproduced():
    torch = pytest.importorskip("torch")
    crop = fill.image_u8("fusion/crop", 256, 256)
    to_crop = np.array([(1.3, 0.2, -40.0), (-0.2, 1.3, 15.0)])
    height, width = 300, 420
    y, x = np.mgrid[:height, :width]
    places = [line[0] * x + line[1] * y + line[2] for line in to_crop]
    grid = torch.tensor(np.stack(places, axis=-1) * 2 / 255 - 1)[None]
    planes = torch.tensor(crop.transpose(2, 0, 1).astype(np.float64))[None]
    expected = torch.nn.functional.grid_sample(planes, grid, align_corners=True)[0].numpy().transpose(1, 2, 0)
    ours = sample_region(crop, to_crop, slice(0, height), slice(0, width))
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    part = sample_region(crop, to_crop, slice(30, 200), slice(70, 300))
    np.testing.assert_allclose(part, ours[30:200, 70:300], atol=1e-4)


def test_the_generator_gets_the_faces_identity_and_both_key_points():
    fed = []
    generator = FakeSession(lambda image, **others: fed.append(others) or {"result": image})
    stages = flow_with(generator=generator).stages({"template": TEMPLATE, "face": FACE}, Request())
    (fusion,) = stages.fusions
    own, faces = fusion.crop.mean(), stages.source.crop.mean()
    np.testing.assert_array_equal(fed[0]["identity"][0], stages.source.identity)
    np.testing.assert_allclose(fed[0]["keypoints_target"], own, rtol=1e-5)
    np.testing.assert_allclose(fed[0]["keypoints_fused"], (own + faces) / 2, rtol=1e-5)


@pytest.mark.parametrize(("scale", "share"), [(1, 0.5), (4, 0.8)])
def test_a_large_template_is_not_copied_as_floats(scale, share):
    import tracemalloc

    template = np.zeros((3000, 2000, 3), np.uint8)
    flow = flow_with(others={template.shape[:2]: [face_at(scale, 300, 600)]}, enhancer=unchanged(), alpha=None)
    fuse(flow, template)  # what is made once
    photos = {"template": template, "face": FACE}
    tracemalloc.start()
    flow.run(photos, Request())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    floats = template.size * 4  # 72 MB
    assert peak < template.nbytes + floats * share


# ---- odd photos ------------------------------------------------------------------------------------------------------


def test_networks_see_black_beyond_the_border_or_the_mirrored_photo():
    white = np.full_like(TEMPLATE, 255)
    flow = flow_with([PLACES["over the corner"]], generator=painting(255))
    photos = {"template": white, "face": FACE}
    black, mirrored = (flow.stages(photos, Request(mirror_borders=mirror)).fusions[0].crop for mirror in (False, True))
    assert (black[:40, :40] == 0).all()
    assert (mirrored == 255).all()


def test_a_mirrored_face_fades_out_before_the_border():
    white = np.full_like(TEMPLATE, 255)
    flow = flow_with([face_at(0.9, -60, 20)], generator=painting(0), enhancer=unchanged())
    steps = [255 - fuse(flow, white, mirror_borders=mirror).image[120, :3, 0].astype(int) for mirror in (False, True)]
    assert (steps[0] > 200).all()
    assert steps[1][0] < 60
    assert (np.diff(steps[1]) > 0).all()


def test_a_grey_template_stays_grey_and_a_grey_face_is_taken():
    grey = np.repeat(fill.smooth_u8("fusion/grey", 300, 420, 1), 3, axis=2)
    tinting = FakeSession(lambda image, **_: {"result": (image * np.array([1, 0.8, 0.6])).astype(np.uint8)})
    image = fuse(flow_with(generator=tinting), grey).image
    assert (np.ptp(image, axis=2) == 0).all()
    assert changed(image, grey).any()
    coloured = fuse(flow_with(), face=np.repeat(FACE[..., :1], 3, axis=2)).image
    assert (np.ptp(coloured, axis=2) > 0).any()


def test_template_and_face_may_be_the_same_photo():
    same = FakeSession(lambda image, **_: {"result": image})
    outcome = fuse(flow_with(generator=same), face=TEMPLATE)
    assert np.abs(outcome.image.astype(int) - TEMPLATE).max() <= 12  # what a crop loses of the photo


def test_a_face_outside_the_photo_changes_nothing():
    for enhancer in (None, unchanged()):
        outcome = fuse(flow_with([face_at(0.5, 800, 700)], enhancer=enhancer))
        np.testing.assert_array_equal(outcome.image, TEMPLATE)


@pytest.mark.parametrize("squeeze", [0.35, 0.1])
def test_a_profile_is_fused_in_place(squeeze):
    frontal = face_at(0.8, 100, 40)
    points = frontal.five_points.copy()
    points[:, 0] = (points[:, 0] - points[0, 0]) * squeeze + points[0, 0]
    outcome = fuse(flow_with([Face(frontal.box, 1.0, None, points)], enhancer=unchanged()))
    assert changed(outcome.image).any()


# ---- bundles ---------------------------------------------------------------------------------------------------------


def all_sessions() -> dict[str, FakeSession]:
    fakes = {GENERATOR: inverting(), RECOGNISER: recogniser(), SHAPES: shapes(), ENHANCER: unchanged()}
    return fakes | {DETECTOR: unchanged(), LANDMARKS: unchanged(), "parsenet": parser(1, slice(0), slice(0))}


def test_a_complete_bundle_opens_without_notes(tmp_path):
    Image.fromarray(SHARES).save(tmp_path / "alpha.png")
    flow = open_flow(all_sessions(), {"alpha": tmp_path / "alpha.png"}, Options())
    assert flow.notes == []
    words = "Face fusion at 256 px, enhanced by GPEN at 1024 px, faces by the detector of DCT-Net"
    assert flow.describe() == words


@pytest.mark.parametrize(("missing", "said"), [(ENHANCER, "lacks gpen-bfr-1024"), (DETECTOR, "Haar cascades stand in")])
def test_what_stands_in_is_noted(missing, said):
    sessions = {name: session for name, session in all_sessions().items() if name != missing}
    flow = open_flow(sessions, {}, Options())
    assert any(said in note for note in flow.notes)
    assert any("ellipse" in note for note in flow.notes)


@pytest.mark.parametrize("missing", [GENERATOR, RECOGNISER, SHAPES])
def test_a_bundle_without_a_network_is_refused(missing):
    sessions = {name: session for name, session in all_sessions().items() if name != missing}
    with pytest.raises(BundleError, match=f"no network {missing}"):
        open_flow(sessions, {}, Options())


def test_progress_counts_the_faces():
    told: list[tuple[int, int]] = []
    photos = {"template": TEMPLATE, "face": FACE}
    flow_with(TWO).run(photos, Request(all=True), lambda done, all: told.append((done, all)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("chosen", [{"strength": 1.5}, {"template_face": 0}, {"size_rule": "small"}, {"all": 3}])
def test_options_out_of_range_are_refused(chosen):
    with pytest.raises(CameoError, match=f"Option `{next(iter(chosen))}` of face-fusion is .* expected"):
        Request(**chosen)


def test_the_model_runs_behind_its_door(tmp_path):
    import cameo
    from cameo.testing import fake_bundle

    photo = pytest.importorskip("skimage.data").astronaut()
    networks = {name: all_sessions()[name] for name in (GENERATOR, RECOGNISER, SHAPES)}
    with fake_bundle(tmp_path / "bundle", "face-fusion", networks) as folder, cameo.load(folder, consent=True) as model:
        assert model.takes == face_fusion.TAKES
        outcome = model.run([photo, photo], model.request(strength=1.0))
    assert len(outcome.faces) == 1
    assert changed(outcome.image, photo)[100:140, 200:250].all()
    assert not changed(outcome.image, photo)[300:].any()


def test_the_command_takes_two_photos_and_the_choices(tmp_path, capsys, monkeypatch):
    from cameo.commands import main
    from cameo.testing import fake_bundle

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    astronaut = pytest.importorskip("skimage.data").astronaut()
    Image.fromarray(np.hstack([astronaut, astronaut])).save(tmp_path / "template.png")
    Image.fromarray(astronaut).save(tmp_path / "face.png")
    networks = {name: all_sessions()[name] for name in (GENERATOR, RECOGNISER, SHAPES, ENHANCER)}
    photos = [str(tmp_path / name) for name in ("template.png", "face.png")]
    with fake_bundle(tmp_path / "bundle", "face-fusion", networks) as folder:

        def run(*flags: str) -> int:
            return main(["run", str(folder), *photos, "-o", str(tmp_path / "out.png"), *flags])

        assert run("--no-enhance") == 2
        assert "say that they agree" in capsys.readouterr().err
        chosen = ("--template-face", "2", "--no-enhance", "--size-rule", "short-1024", "--strength", "0.5")
        assert run("--consent", *chosen) == 0
        assert "1 face" in capsys.readouterr().out
        assert run("--all", "--template-reference", photos[1]) == 2
        assert "every face of the template" in capsys.readouterr().err
        assert run("--template-reference", photos[1], "--match-color") == 0
        assert "its cosine to the reference is 1.00" in capsys.readouterr().out
        assert run("--template-face", "3") == 2
        assert "which has 2 faces: choose 1, the largest, to 2." in capsys.readouterr().err
        assert run("--keep-occluders") == 2
        assert "parsenet" in capsys.readouterr().err
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (1024, 512)
