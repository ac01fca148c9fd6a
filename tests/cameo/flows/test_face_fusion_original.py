"""Face fusion, step by step and as a whole, against what the original code computed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cameo.faces import Face, alignment
from cameo.faces.blending import Blend, FaceBlender
from cameo.faces.enhancing import FaceEnhancer, soft_rectangle, soften
from cameo.faces.fusing import FUSION_TEMPLATE, FaceFuser, Fusion
from cameo.faces.pupils import five_points
from cameo.faces.sampling import sample_region
from cameo.flows.face_fusion import FaceFusionFlow, Request
from cameo.testing import FakeSession, image_session
from tests.cameo.flows.fusion_parts import FindsBySize
from tests.support import fill
from tests.support.golden import golden

WHOLE = slice(0, 400), slice(0, 480)
COEFFICIENTS = fill.uniform("fusion/coefficients", (257,))


@pytest.fixture(scope="module")
def original(shared_models: Path) -> dict[str, np.ndarray]:
    with np.load(shared_models / "expected" / "fusion_flow.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def faces(original) -> dict[str, Face]:
    """The faces by the names of their photos; the height and width of the template's box are the original's."""
    found = {}
    for name in ("template", "user"):
        landmarks = original[f"lm_{name}"]
        box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
        found[name] = Face(box, 1.0, landmarks, five_points(original[f"{name}_rgb"], landmarks))
    return found


def fused_levels(original) -> np.ndarray:
    """What the original's generator gave, float32 `(256, 256, 3)` in 0..255, kept as half floats."""
    made = original["Yt/full"][0].transpose(1, 2, 0).astype(np.float32)
    return np.clip(made * 0.5 + 0.5, 0, 1) * 255


def networks(original, fed: list[dict[str, np.ndarray]]) -> dict[str, FakeSession]:
    """Sessions that give what the original's networks gave, and put down what the generator was fed."""

    def generate(image: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        fed.append({"image": image, **others})
        return {"result": np.rint(fused_levels(original)).astype(np.uint8)[None]}

    def see(image: np.ndarray, shape: np.ndarray) -> dict[str, np.ndarray]:
        is_face = np.abs(image[0].astype(int) - original["Xs_u8_rgb"]).mean() < 1
        np.testing.assert_array_equal(shape[0], np.zeros(80) if is_face else COEFFICIENTS[:80])
        names = {"keypoints": "kp_t", "keypoints_fused": "kp_fuse"}
        points = {output: original[f"{name}/full"] for output, name in names.items()}
        return {"coefficients": COEFFICIENTS[None], **points}

    return {
        "generator": FakeSession(generate),
        "recogniser": FakeSession(lambda image: {"embedding": original["embeds/full"]}),
        "shapes": FakeSession(see),
    }


def flow_of(original, faces, enhancer=None, fed=None) -> FaceFusionFlow:
    alpha = original["alpha_jpg_decoded"][..., ::-1]
    fuser = FaceFuser(**networks(original, [] if fed is None else fed), alpha=alpha)
    finder = FindsBySize({(400, 480): [faces["template"]], (300, 300): [faces["user"]]})
    return FaceFusionFlow(fuser, FaceBlender(fuser, enhancer), finder)


def photos(original) -> dict[str, np.ndarray]:
    return {"template": original["template_rgb"], "face": original["user_rgb"]}


def test_points_are_the_original_ones(original, faces):
    for name, face in faces.items():
        np.testing.assert_array_equal(face.five_points, original[f"f5p_{name}"])
    box = faces["template"].box
    np.testing.assert_array_equal((box[3] - box[1], box[2] - box[0]), original["fh_fw"])


def test_reference_points_are_the_original_ones():
    square = golden("geometry")["fusion/ref5"]
    np.testing.assert_allclose(FUSION_TEMPLATE, ((square - 56) * 0.85 + 56) * 256 / 112, atol=1e-9)


def test_crops_lie_where_the_original_ones_do():
    stored = golden("geometry")
    for index, points in enumerate(stored["points"]):
        to_crop = alignment.similarity_in_image_frame(points, FUSION_TEMPLATE)
        np.testing.assert_allclose(alignment.invert(to_crop), stored[f"fusion/tfm_inv/{index}"], atol=1e-4)


def test_crops_are_the_original_ones(original, faces):
    stages = flow_of(original, faces).stages(photos(original), Request())
    (fusion,) = stages.fusions
    np.testing.assert_allclose(alignment.invert(fusion.to_crop), original["trans_inv"], atol=5e-5)
    for crop, name in ((stages.source.crop, "Xs_u8_rgb"), (fusion.crop, "Xt_u8_rgb")):
        error = np.abs(crop.astype(int) - original[name])
        assert error.max() <= 3  # a few pixels fall to the next 1/32 px of the warp
        assert (error > 0).mean() < 1e-3


def test_the_generator_is_fed_what_the_original_one_was(original, faces):
    fed: list[dict[str, np.ndarray]] = []
    flow_of(original, faces, fed=fed).stages(photos(original), Request())
    assert len(fed) == 1
    np.testing.assert_array_equal(fed[0]["identity"], original["embeds/full"])
    np.testing.assert_array_equal(fed[0]["keypoints_fused"], original["kp_fuse/full"])
    np.testing.assert_array_equal(fed[0]["keypoints_target"], original["kp_t/full"])


@pytest.mark.parametrize(("rounded", "tolerance"), [(False, 0.05), (True, 0.5)])
def test_the_pasted_face_is_the_original_one(original, faces, rounded, tolerance):
    fuser = FaceFuser(**networks(original, []), alpha=original["alpha_jpg_decoded"][..., ::-1])
    to_crop, crop = fuser.cut(original["template_rgb"], faces["template"], cv2.BORDER_CONSTANT)
    nothing = np.zeros(0, np.float32)
    fusion = Fusion(faces["template"], to_crop, crop, nothing, nothing, nothing, crop)
    levels = fused_levels(original)
    picture = original["template_rgb"].astype(np.float32)
    fuser.paste(picture, fusion, *WHOLE, np.rint(levels) if rounded else levels)
    assert fill.compare(original, "before_enhance_bgr", picture[..., ::-1])["max_abs"] < tolerance
    mask = sample_region(fuser.mask, to_crop, *WHOLE).transpose(2, 0, 1)[None]
    assert fill.compare(original, "mask_warped", mask)["max_abs"] < 1e-5


def test_the_enhancers_mask_is_the_original_one():
    assert fill.compare(golden("fusion_flow"), "mask_enhance_512", soft_rectangle(512))["max_abs"] < 1e-6


def test_the_enhancers_crop_is_the_original_one(original, faces):
    (fusion,) = (flow := flow_of(original, faces)).stages(photos(original), Request()).fusions
    picture = original["template_rgb"].astype(np.float32)
    flow.blender.paste(picture, fusion, *WHOLE, Blend())
    enhancer = FaceEnhancer(image_session(lambda image: image), 1024)
    crop = enhancer.crop(picture, faces["template"], *WHOLE, cv2.BORDER_CONSTANT)
    error = fill.compare(original, "gpen_in", crop[..., ::-1].astype(np.float32))
    assert error["max_abs"] < 1.1  # rounded twice, and a few pixels fall to the next 1/32 px of the warp
    assert error["mean_abs"] < 0.3


@pytest.mark.parametrize("side", [35, 55, 75, 95, 120])
def test_small_faces_are_softened_as_the_original_ones(original, faces, side):
    enhanced = np.ascontiguousarray(fill.smooth_u8("fusion/fake_ef", 1024, 1024)[..., ::-1])
    picture = original["template_rgb"].astype(np.float32)
    enhancer = FaceEnhancer(image_session(lambda image: image), 1024)
    enhancer.paste(picture, soften(enhanced, side), faces["template"], *WHOLE)
    levels = np.rint(picture).clip(0, 255).astype(np.uint8)[..., ::-1]
    error = fill.compare(original, f"enh_branch/{side}", levels)
    assert error["max_abs"] == 0
    assert error["stat_diff"] < 5e-5


@pytest.mark.parametrize(("side", "other"), [(40, 39.9), (60, 59.9), (80, 79.9), (100, 99.9)])
def test_softening_has_the_original_limits(side, other):
    crop = fill.image_u8("fusion/enhanced", 64, 64)
    assert (soften(crop, side) != soften(crop, other)).any()
    np.testing.assert_array_equal(soften(crop, side), soften(crop, side + 19))
    assert soften(crop, other).shape == crop.shape


@pytest.fixture(scope="module")
def whole(original) -> FaceEnhancer:
    """GPEN-1024 with filled weights, in torch: in the export form, as it is the faster one (test_gpen.py: the same)."""
    torch = pytest.importorskip("torch")
    from exporters.gpen.export_form import ExportForm
    from exporters.gpen.network import Architecture, FullGenerator
    from tests.support.filled_networks import filled

    network = filled(FullGenerator.without_weights(Architecture.of(size=1024)).to_empty(device="cpu"))
    form = ExportForm(network).to(memory_format=torch.channels_last)

    def run(image: np.ndarray) -> np.ndarray:
        x = torch.tensor((image.astype(np.float32) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
        with torch.inference_mode():
            y = form(x).permute(0, 2, 3, 1).numpy() * 0.5 + 0.5
        return (np.clip(y, 0, 1) * 255).astype(np.uint8)

    return FaceEnhancer(image_session(run), 1024)


@pytest.mark.heavy
def test_the_whole_flow_is_the_original_one(original, faces, whole):
    outcome = flow_of(original, faces, whole).run(photos(original), Request())
    error = np.abs(outcome.image[..., ::-1].astype(int) - original["out_bgr"])
    assert error.max() <= 2
    assert (error > 1).mean() < 1e-3
    assert error.mean() < 0.2


def test_the_whole_flow_is_another_one_with_mirrored_borders(original, faces):
    """The enhancer's crop leaves this photo (docs/decisions/147), and all of it tells GPEN's style."""
    crops: list[np.ndarray] = []

    def paint(image: np.ndarray) -> np.ndarray:
        crops.append(image[0])
        return np.full_like(image, round(float(image.mean())))

    flow = flow_of(original, faces, FaceEnhancer(image_session(paint), 1024))
    black, mirrored = (flow.run(photos(original), Request(mirror_borders=mirror)).image for mirror in (False, True))
    errors = [fill.compare(original, "gpen_in", crop[..., ::-1].astype(np.float32)) for crop in crops]
    assert errors[0]["max_abs"] < 1.1
    assert errors[1]["mean_abs"] > 1
    assert (np.abs(black.astype(int) - mirrored) <= 2).mean() < 0.9
