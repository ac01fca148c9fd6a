"""Face fusion on networks that are told what to see: what its tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from cameo.faces import Face, alignment
from cameo.faces.blending import FaceBlender
from cameo.faces.enhancing import FaceEnhancer
from cameo.faces.fusing import CROP_SIZE, FUSION_TEMPLATE, FaceFuser
from cameo.flows import Outcome
from cameo.flows.face_fusion import FaceFusionFlow, Request
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.testing import FakeSession, image_session
from tests.support import fill

TEMPLATE = fill.smooth_u8("fusion/template", 300, 420)
FACE = fill.smooth_u8("fusion/face", 200, 260)
OPAQUE = np.full((CROP_SIZE, CROP_SIZE), 255, np.uint8)


def face_at(scale: float, left: float, top: float, degrees: float = 0.0, box: float = 0.0) -> Face:
    """A face whose crop is the square of 256 x `scale` pixels at (left, top), turned; `box` is its box's side."""
    crop_to_photo = cv2.getRotationMatrix2D((128, 128), degrees, scale)
    crop_to_photo[:, 2] += (left + 128 * (scale - 1), top + 128 * (scale - 1))
    side = box or CROP_SIZE * scale
    corners = np.array([left, top, left + side, top + side], np.float32)
    return Face(corners, 1.0, None, alignment.transform(crop_to_photo, FUSION_TEMPLATE))


PLACES = {
    "inside": face_at(0.8, 100, 40),
    "turned": face_at(0.6, 150, 60, degrees=35),
    "over the corner": face_at(0.9, -60, -50),
    "over the other corner": face_at(0.9, 300, 200, degrees=-20),
    "larger than the photo": face_at(3, -200, -150, degrees=5),
    "tiny": face_at(0.1, 200, 150),
}
SHARES = fill.smooth_u8("fusion/alpha", 256, 256, 1)[..., 0]
TWO = [face_at(0.3, 20, 20), face_at(0.5, 220, 100)]  # as a finder may give them: the smaller one first


class FindsBySize:
    """A finder that knows the faces of every photo by its (height, width)."""

    title = "the faces that the test knows"
    most = 750

    def __init__(self, faces: dict[tuple[int, ...], Sequence[Face]]) -> None:
        self.faces = faces

    def __call__(self, image: Pixels) -> list[Face]:
        return list(self.faces.get(image.shape[:2], ()))


def unit(number: float) -> np.ndarray:
    """An identity, float32 `(512,)`, by the angle of its first two numbers."""
    identity = np.zeros(512, np.float32)
    identity[:2] = np.cos(number), np.sin(number)
    return identity


def recogniser() -> FakeSession:
    """Identities by the mean brightness of a crop: alike where that is."""
    return FakeSession(lambda image: {"embedding": np.stack([unit(one.mean() / 255 * np.pi / 2) for one in image])})


def shapes() -> FakeSession:
    """The mean of a crop as its first coefficient; key points: its own, and the mean of its own and the shape's."""

    def see(image: np.ndarray, shape: np.ndarray) -> dict[str, np.ndarray]:
        coefficients = np.zeros((len(image), 257), np.float32)
        coefficients[:, 0] = image.mean(axis=(1, 2, 3))
        own, both = coefficients[:, 0], (coefficients[:, 0] + shape[:, 0]) / 2
        points = [np.broadcast_to(each[:, None, None], (len(image), 17, 2)) for each in (own, both)]
        return {"coefficients": coefficients, "keypoints": points[0], "keypoints_fused": points[1]}

    return FakeSession(see)


def inverting() -> FakeSession:
    return FakeSession(lambda image, **_: {"result": 255 - image})


def painting(value: int) -> FakeSession:
    return FakeSession(lambda image, **_: {"result": np.full_like(image, value)})


def parser(part: int, rows: slice, columns: slice, elsewhere: int = 1) -> FakeSession:
    """Sees `part` in those rows and columns of every crop of 512 pixels, and `elsewhere` around them."""
    logits = np.zeros((1, 19, 512, 512), np.float32)
    logits[:, elsewhere] = 1
    logits[:, part, rows, columns] = 2
    return FakeSession(lambda image: {"mask": logits.repeat(len(image), axis=0)})


def flow_with(
    template_faces: Sequence[Face] = (face_at(0.8, 100, 40),),
    face_faces: Sequence[Face] = (face_at(0.5, 60, 30),),
    *,
    generator: FakeSession | None = None,
    enhancer: Session | None = None,
    parsed: Session | None = None,
    alpha: Pixels | None = OPAQUE,
    others: dict[tuple[int, ...], Sequence[Face]] | None = None,
) -> FaceFusionFlow:
    """A flow that finds these faces in TEMPLATE and FACE, `others` in photos of other sizes; its enhancer has 64 px."""
    fuser = FaceFuser(generator or inverting(), recogniser(), shapes(), alpha)
    finder = FindsBySize({TEMPLATE.shape[:2]: template_faces, FACE.shape[:2]: face_faces, **(others or {})})
    return FaceFusionFlow(fuser, FaceBlender(fuser, enhancer and FaceEnhancer(enhancer, 64), parsed), finder)


def fuse(flow: FaceFusionFlow, template: Pixels = TEMPLATE, face: Pixels = FACE, **chosen: Any) -> Outcome:
    """What the flow makes of the two photos, which it must leave alone."""
    photos = {"template": template, "face": face}
    before = {name: photo.copy() for name, photo in photos.items()}
    outcome = flow.run(photos, Request(**chosen))
    for name, photo in photos.items():
        np.testing.assert_array_equal(photo, before[name])
    assert (outcome.image.shape, outcome.image.dtype) == (template.shape, np.uint8)
    return outcome


def unchanged() -> FakeSession:
    """An enhancer that gives back what it got."""
    return image_session(lambda image: image)


def changed(image: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
    return (image != template).any(axis=2)
