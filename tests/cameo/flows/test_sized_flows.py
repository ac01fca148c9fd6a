"""Size rules, the way back and the limit of sides in the flows of one photo, by every door."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import cameo
from cameo.commands import main
from cameo.errors import PhotoTooLarge, RequestError
from cameo.faces import Face, alignment
from cameo.faces.restoring import FaceRestorer
from cameo.flows import Outcome, dctnet, flow_module, gpen
from cameo.flows.dctnet import BACKGROUND, HEAD
from cameo.loading import told_apart
from cameo.pixels import Pixels
from cameo.size_rule import BY_LONG_SIDE, BY_SHORT_SIDE, ORIGINAL, SIZE_RULES, fit, lanczos
from cameo.testing import FakeSession, fake_bundle, image_session
from cameo.tiles import Enlarger
from cameo.workers.calls import Served
from tests.support import fill
from tests.support.doors import Finds
from tests.support.served import photo_server

LARGE = fill.smooth_u8("sizes/large", 1200, 1600)
SMALL = fill.smooth_u8("sizes/small", 300, 420)
NONE = Finds()
SEEN = "Networks saw the photo at 1024x768 pixels."
NO_FACE = "No face was found: all of the photo was drawn as background."


class Finder:
    """Finds one face in the middle of what it is shown, and remembers the sizes of that."""

    title, most = "the middle", 50

    def __init__(self, shift: float = 0) -> None:
        self.shift, self.shapes = shift, list[tuple[int, ...]]()

    def __call__(self, image: Pixels) -> list[Face]:
        self.shapes.append(image.shape[:2])
        height, width = image.shape[:2]
        points = alignment.square_template(64, 2 / 3) * 2 - 64 + ((width - 1) / 2 + self.shift, (height - 1) / 2)
        box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
        return [Face(box, 1.0, None, points)]


def same() -> FakeSession:
    return image_session(lambda image: image)


def inverting() -> FakeSession:
    return image_session(lambda image: 255 - image)


def doubling() -> FakeSession:
    return image_session(lambda image: image.repeat(2, axis=1).repeat(2, axis=2))


def cartoon(photo: Pixels, networks: dctnet.Networks, finder: Any = NONE, **chosen: Any) -> Outcome:
    options, request = told_apart(flow_module("dctnet"), chosen, ())
    flow: Any = dctnet.DctNetFlow(networks, finder, options=cast(dctnet.Options, options))
    return cast(Outcome, flow.run({"photo": photo}, request))


def restored(photo: Pixels, finder: Finder, enlarger: Enlarger | None = None, **chosen: Any) -> Outcome:
    options, request = told_apart(flow_module("gpen"), chosen, ())
    flow: Any = gpen.GpenFlow(FaceRestorer(inverting(), 64), finder, enlarger, cast(gpen.Options, options))
    return cast(Outcome, flow.run({"photo": photo}, request))


@pytest.mark.parametrize(
    ("photo", "rule", "expected"),
    [
        (LARGE, ORIGINAL, (720, 960)),
        (LARGE, BY_LONG_SIDE, (768, 1024)),
        (LARGE, BY_SHORT_SIDE, (1024, 1376)),  # 1365, a multiple of 16
        (SMALL, ORIGINAL, (304, 432)),
        (SMALL, BY_LONG_SIDE, (304, 432)),
        (SMALL, BY_SHORT_SIDE, (512, 512)),
        (np.zeros((1024, 1024, 3), np.uint8), BY_LONG_SIDE, (1024, 1024)),  # the rule decides, not the option size
        (np.zeros((1100, 20_000, 3), np.uint8), BY_SHORT_SIDE, (176, 3008)),  # never beyond the flow's own limit
    ],
)
def test_dctnet_draws_at_the_size_of_the_rule(photo: Pixels, rule: str, expected: tuple[int, int]) -> None:
    background = same()
    outcome = cartoon(photo, dctnet.Networks(background, same()), size_rule=rule)
    assert background.shapes == [(1, *expected, 3)]
    assert outcome.image.shape == photo.shape
    limited = {(LARGE.shape, BY_LONG_SIDE): SEEN, (LARGE.shape, BY_SHORT_SIDE): SEEN.replace("1024x768", "1365x1024")}
    if photo.shape[1] < 20_000:
        assert outcome.note == f"{limited.get((photo.shape, rule), '')} {NO_FACE}".strip()
    else:
        assert outcome.note == f"{SEEN.replace('1024x768', '3000x165')} {NO_FACE}"


def test_dctnet_goes_back_by_lanczos() -> None:
    outcome = cartoon(LARGE, dctnet.Networks(same(), same()), size_rule=BY_LONG_SIDE)
    np.testing.assert_array_equal(outcome.image, lanczos(lanczos(LARGE, (1024, 768)), (1600, 1200)))
    padded = cartoon(SMALL, dctnet.Networks(inverting(), same()), size_rule=BY_SHORT_SIDE)
    np.testing.assert_array_equal(padded.image, 255 - SMALL)


def test_without_a_rule_dctnet_goes_back_as_ever() -> None:
    """By areas, from floats where there is a face."""
    outcome = cartoon(LARGE, dctnet.Networks(same(), same()))
    small = cv2.resize(LARGE, (960, 720), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(outcome.image, cv2.resize(small, (1600, 1200), interpolation=cv2.INTER_AREA))
    assert outcome.note == NO_FACE


@pytest.mark.parametrize("rule", SIZE_RULES)
@pytest.mark.parametrize("photo", [LARGE, SMALL])
def test_faces_of_the_cartoon_lie_in_the_photo(photo: Pixels, rule: str) -> None:
    finder = Finder()
    outcome = cartoon(photo, dctnet.Networks(same(), inverting()), finder, size_rule=rule)
    middle = outcome.faces[0].five_points.mean(axis=0) - alignment.square_template(64, 2 / 3).mean(axis=0) + 32
    assert np.abs(middle - np.array(photo.shape[1::-1]) / 2).max() < 2 + max(photo.shape) / 100
    changed = np.abs(outcome.image.astype(int) - photo).max(axis=2) > 30
    assert changed[photo.shape[0] // 2, photo.shape[1] // 2]


def test_a_face_in_the_mirrored_border_is_none() -> None:
    outcome = cartoon(SMALL[:, :60], dctnet.Networks(same(), same()), Finder(-100), size_rule=BY_SHORT_SIDE)
    assert outcome.faces == ()
    outcome = restored(SMALL[:, :60], Finder(-100), size_rule=BY_SHORT_SIDE)
    assert outcome.faces == ()
    np.testing.assert_array_equal(outcome.image, SMALL[:, :60])


@pytest.mark.parametrize("rule", [ORIGINAL, BY_LONG_SIDE])
def test_sr_enlarges_the_cartoon_once_and_lanczos_does_the_rest(rule: str) -> None:
    enlarging = doubling()
    networks = dctnet.Networks(same(), same(), Enlarger(enlarging, 2, None))
    outcome = cartoon(LARGE, networks, size_rule=rule, sr=True)
    drawn = lanczos(LARGE, (1024, 768))
    if rule == ORIGINAL:
        drawn = np.asarray(cv2.resize(LARGE, (960, 720), interpolation=cv2.INTER_AREA), np.uint8)
    assert enlarging.shapes == [(1, *drawn.shape)]
    np.testing.assert_array_equal(outcome.image, lanczos(drawn.repeat(2, axis=0).repeat(2, axis=1), (1600, 1200)))


def test_sr_rests_where_nothing_is_to_be_enlarged() -> None:
    enlarging = doubling()
    networks = dctnet.Networks(inverting(), same(), Enlarger(enlarging, 2, None))
    np.testing.assert_array_equal(cartoon(SMALL, networks, sr=True).image, 255 - SMALL)
    assert enlarging.shapes == []


def test_sr_needs_its_network_and_stays_within_the_limit() -> None:
    with pytest.raises(RequestError, match="no network realesrnet-x1, -x2 or -x4, expected one for the option `sr`"):
        cartoon(SMALL, dctnet.Networks(same(), same()), sr=True)
    networks = dctnet.Networks(same(), same(), Enlarger(doubling(), 2, None))
    with pytest.raises(PhotoTooLarge, match="Enlarged, the photo would be 2048x1536, 3,145,728 pixels, expected"):
        cartoon(LARGE, networks, sr=True, size_rule=BY_LONG_SIDE, max_pixels=2_000_000)


@pytest.mark.parametrize(("rule", "seen"), [(BY_LONG_SIDE, (768, 1024)), (BY_SHORT_SIDE, (1024, 1365))])
def test_gpen_looks_for_faces_at_the_size_of_the_rule_and_cuts_them_from_the_photo(
    rule: str, seen: tuple[int, int]
) -> None:
    finder = Finder()
    outcome = restored(LARGE, finder, size_rule=rule)
    assert finder.shapes == [seen]
    view = fit(LARGE, rule)

    class Known(Finder):
        def __call__(self, image: Pixels) -> list[Face]:
            return [view.in_photo(face) for face in finder(view.image)]

    expected = restored(LARGE, Known())  # that face of the photo as it is
    np.testing.assert_array_equal(outcome.image, expected.image)
    assert outcome.note == f"Networks saw the photo at {seen[1]}x{seen[0]} pixels."


def test_gpens_photo_keeps_its_bits_outside_the_face() -> None:
    outcome = restored(LARGE, Finder(), size_rule=BY_LONG_SIDE)
    changed = (outcome.image != LARGE).any(axis=2)
    assert changed[590:610, 790:810].all()
    changed[480:720, 680:920] = False  # the crop has 64 * 2 * 1600 / 1024 = 200 pixels
    assert not changed.any()


def test_gpen_finds_faces_of_the_enlarged_photo_at_the_size_of_the_rule() -> None:
    finder = Finder()
    outcome = restored(LARGE, finder, Enlarger(doubling(), 2, None), sr=True, size_rule=BY_LONG_SIDE)
    assert finder.shapes == [(768, 1024)]
    assert outcome.image.shape == (2400, 3200, 3)
    assert np.abs(outcome.faces[0].five_points.mean(axis=0) - (1600, 1200)).max() < 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    networks = {BACKGROUND: inverting(), HEAD: same(), "realesrnet-x2": doubling()}
    with fake_bundle(tmp_path_factory.mktemp("sized"), "dctnet", networks) as folder:
        yield folder


def png(photo: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_door_has_rule_and_sr(bundle: Path, tmp_path: Path) -> None:
    photo = fill.smooth_u8("sizes/door", 100, 1500)
    usual = cameo.load(bundle)
    with usual, cameo.load(bundle, size_rule=BY_LONG_SIDE, sr=True) as sized:
        expected = np.asarray(usual(photo, size_rule=BY_LONG_SIDE, sr=True))
        np.testing.assert_array_equal(np.asarray(sized(photo)), expected)
        assert (np.asarray(usual(photo)) != expected).any()
        np.testing.assert_array_equal(np.asarray(sized(photo, size_rule=ORIGINAL, sr=False)), np.asarray(usual(photo)))
    (tmp_path / "photo.png").write_bytes(png(photo))
    flags = ("--size-rule", BY_LONG_SIDE, "--sr", "-o", str(tmp_path / "out.png"))
    assert main(["run", str(bundle), str(tmp_path / "photo.png"), *flags]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected)
    with photo_server(bundle) as server:
        fields = {"size_rule": BY_LONG_SIDE, "sr": "yes"}
        answer = TestClient(server.app).post("/run", files={"photo": png(photo)}, data=fields)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected)
    assert unquote(answer.headers["x-cameo-note"]) == f"Networks saw the photo at 1024x68 pixels. {NO_FACE}"


def test_whoever_loads_the_model_limits_sides(bundle: Path) -> None:
    with cameo.load(bundle, max_side=300) as model:
        assert model(np.zeros((300, 300, 3), np.uint8)).size == (300, 300)
        for photo in (np.zeros((1, 301, 3), np.uint8), png(np.zeros((301, 8, 3), np.uint8))):
            with pytest.raises(PhotoTooLarge, match=r"is (301x1|8x301), expected sides of at most 300: shrink it\."):
                model(photo)
        with pytest.raises(RequestError, match="has no option `max_side` for a call"):
            model(np.zeros((8, 8, 3), np.uint8), max_side=400)
    with photo_server(Served("sized", bundle, options={"max_side": "300"})) as server:
        answer = TestClient(server.app).post("/run", content=png(np.zeros((301, 8, 3), np.uint8)))
    assert (answer.status_code, answer.json()["error"]) == (
        413,
        "The photo is 8x301, expected sides of at most 300: shrink it.",
    )


@pytest.mark.parametrize("chosen", [{"max_side": 0}, {"max_side": 65_536}, {"size_rule": "small"}, {"tile": 130}])
def test_what_is_out_of_range_is_refused(bundle: Path, chosen: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"Option `{next(iter(chosen))}` of dctnet is"):
        cameo.load(bundle, **chosen)
