"""Face fusion's flow: how much of a fused face shows: strength, occluders, colours, the enhancer."""

from __future__ import annotations

import numpy as np
import pytest

from cameo.errors import RequestError
from cameo.faces import alignment
from cameo.faces.blending import FaceBlender
from cameo.faces.enhancing import FaceEnhancer
from cameo.faces.occluders import bare
from cameo.flows.face_fusion import Request
from cameo.testing import FakeSession, image_session
from tests.cameo.flows.fusion_parts import (
    FACE,
    PLACES,
    SHARES,
    TEMPLATE,
    changed,
    face_at,
    flow_with,
    fuse,
    painting,
    parser,
    unchanged,
)
from tests.support import fill


@pytest.mark.parametrize("enhancer", [None, image_session(lambda image: 255 - image)], ids=["fused", "enhanced"])
def test_strength_mixes_from_the_template_to_the_whole_result(enhancer):
    flow = flow_with(enhancer=enhancer)
    none, half, full = (fuse(flow, strength=strength).image for strength in (0, 0.5, 1))
    np.testing.assert_array_equal(none, TEMPLATE)
    np.testing.assert_array_equal(full, fuse(flow).image)
    assert np.abs(half - (TEMPLATE.astype(float) + full) / 2).max() <= 1


@pytest.mark.parametrize("part", [0, 3, 13, 14, 15, 16, 18])
def test_what_lies_over_the_face_keeps_its_bits(part):
    seen = slice(200, 300), slice(180, 330)
    flow = flow_with(parsed=parser(part, *seen), enhancer=image_session(np.zeros_like))
    without, kept = fuse(flow).image, fuse(flow, keep_occluders=True).image
    (fusion,) = flow.stages({"template": TEMPLATE, "face": FACE}, Request()).fusions
    to_crop = alignment.similarity_in_crop_frame(
        fusion.face.five_points.astype(np.float32), alignment.square_template(512, 2 / 3)
    )
    y, x = np.mgrid[: TEMPLATE.shape[0], : TEMPLATE.shape[1]]
    places = alignment.transform(to_crop, np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(*x.shape, 2)
    over = (places >= (seen[1].start + 1, seen[0].start + 1)).all(-1) & (
        places < (seen[1].stop - 2, seen[0].stop - 2)
    ).all(-1)
    assert over.sum() > 1000
    assert not changed(kept)[over].any()
    assert changed(without)[over].mean() > 0.9
    away = np.linalg.norm(places - (256, 400), axis=2) < 50
    np.testing.assert_array_equal(kept[away], without[away])


@pytest.mark.parametrize("part", [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17])
def test_parts_of_the_head_are_fused(part):
    flow = flow_with(parsed=parser(part, slice(200, 300), slice(180, 330)))
    np.testing.assert_array_equal(fuse(flow, keep_occluders=True).image, fuse(flow).image)


def test_the_bare_head_fades_out_before_what_lies_over_it():
    logits = np.zeros((19, 512, 512), np.float32)
    logits[1] = 1
    logits[13, :, 300:] = 2
    mask = bare(logits)
    assert (mask[:, 300:] == 0).all()
    assert (mask[:, :280] == 1).all()
    assert (np.diff(mask[256, 280:300]) <= 0).all()


def test_keeping_occluders_needs_the_parser():
    with pytest.raises(RequestError, match="no network parsenet, expected one for the option `keep_occluders`"):
        fuse(flow_with(), keep_occluders=True)


def test_matched_colours_have_the_templates_mean_and_variance():
    tinted = FakeSession(lambda image, **_: {"result": (image * np.array([0.4, 0.5, 0.3]) + 20).astype(np.uint8)})
    flow = flow_with(generator=tinted, alpha=SHARES)
    (fusion,) = flow.stages({"template": TEMPLATE, "face": FACE}, Request()).fusions
    matched = flow.fuser.with_colours_of_template(fusion)
    weights = SHARES / SHARES.sum()
    for channel in range(3):
        ours, wanted = matched[..., channel], fusion.crop[..., channel].astype(float)
        means = [(weights * each).sum() for each in (ours, wanted)]
        spreads = [
            np.sqrt((weights * (each - mean) ** 2).sum()) for each, mean in zip((ours, wanted), means, strict=True)
        ]
        np.testing.assert_allclose(means[0], means[1], atol=0.1)
        np.testing.assert_allclose(spreads[0], spreads[1], atol=0.3)
    plain, with_match = fuse(flow).image, fuse(flow, match_color=True).image
    inside = changed(plain)
    error = [np.abs(image[inside].astype(int) - TEMPLATE[inside]).mean() for image in (plain, with_match)]
    assert error[1] < error[0] / 5


def test_a_face_of_one_colour_is_matched_too():
    image = fuse(flow_with(generator=painting(90)), match_color=True).image
    assert np.ptp(image[120:160, 180:220].reshape(-1, 3), axis=0).max() <= 1


def test_without_the_enhancer_the_face_is_as_fused():
    enhanced = flow_with(enhancer=image_session(lambda image: 255 - image))
    np.testing.assert_array_equal(fuse(enhanced, no_enhance=True).image, fuse(flow_with()).image)
    assert (fuse(enhanced).image != fuse(flow_with()).image).any()


def test_the_box_decides_how_much_the_enhanced_face_is_softened():
    enhancer = image_session(lambda image: fill.image_u8("fusion/noise", 64, 64)[None])
    images = [
        fuse(flow_with([face_at(0.8, 100, 40, box=box)], enhancer=enhancer)).image for box in (35, 55, 75, 95, 120)
    ]
    rough = [np.abs(np.diff(image[100:180, 150:250].astype(int), axis=1)).mean() for image in images]
    assert rough[0] < rough[2] < rough[4]
    assert len({image.tobytes() for image in images}) == 5


Y, X = np.mgrid[:300, :420]
RAMP = np.rint(np.stack([X * 250 / 419, Y * 250 / 299, (X + Y) * 250 / 718], axis=-1)).astype(np.uint8)
"""Sampling loses nothing of it, and whatever is moved, turned or exchanged shows."""


@pytest.mark.parametrize("with_enhancer", [False, True], ids=["fused", "enhanced"])
@pytest.mark.parametrize("face", PLACES.values(), ids=PLACES)
def test_networks_that_change_nothing_give_back_the_template(face, with_enhancer):
    flow = flow_with([face], generator=FakeSession(lambda image, **_: {"result": image}), alpha=None)
    enhancer = FaceEnhancer(unchanged(), 1024)
    flow.blender = FaceBlender(flow.fuser, enhancer if with_enhancer else None)
    off = np.abs(fuse(flow, RAMP, mirror_borders=True).image.astype(int) - RAMP).max(axis=2)
    in_crop = alignment.transform(enhancer.align(face), np.stack([X, Y], axis=-1).reshape(-1, 2)).reshape(*X.shape, 2)
    on_rim = ((in_crop < 0) | (in_crop > 1023)).any(axis=2) & with_enhancer
    assert off[~on_rim].max() <= 1
    assert off.max() <= 8  # the enhancer's mask is nowhere 0: its crop's rim, of one pixel, darkens by a part of it
