"""What the training of GPEN's demo weights sees: views of spoilt photos, and the same views of the good ones.

A view shows a part of the frame that the flow cuts a face out to. As there, the photo is spoilt first; then the view is
cut out and, as most faces are, enlarged. Only what the view shows is spoilt, so that it costs a few milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from demo import photos
from demo.poor_photo import impoverish, random_poverty
from exporters.gpen.layers import filtered, fir_kernel

Image = NDArray[np.uint8]
FACE_SHARE = 0.35  # part of the views whose middle lies on a face
ENLARGED = 2.6  # how large a photo's pixel is in the frame, mostly: eyes some 70 pixels apart
TURNED = 15  # degrees, at most


@dataclass(frozen=True)
class Views:
    """Batches of `count` views, `side` pixels wide; `halved` is what a network of half the frame's size sees."""

    count: int
    side: int
    halved: bool = False

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Poor and good views, float32 `(N, 3, S, S)` RGB in [-1, 1], without end; no view comes twice."""
        pairs = _pairs(self.side, rng)
        while True:
            poor, good = (as_tensor(np.stack(images)) for images in zip(*islice(pairs, self.count), strict=True))
            if self.halved:
                # The poor one as an encoder's filter leaves it, the good one sharper.
                poor, good = filtered(poor, fir_kernel(1), (1, 1))[..., ::2, ::2], F.avg_pool2d(good, 2)
            yield poor, good


def as_tensor(images: Image) -> Tensor:
    """Images `(N, S, S, 3)` as float32 `(N, 3, S, S)` in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _pairs(side: int, rng: np.random.Generator) -> Iterator[tuple[Image, Image]]:
    everything = [(photo.read()[..., ::-1], photo.face) for photo in photos.RESTORATION]
    faces = [(image, face) for image, face in everything if face]
    everywhere = [(image, None) for image, _ in everything]
    turn = math.radians(TURNED)
    while True:
        choice = faces if rng.random() < FACE_SHARE else everywhere
        image, face = choice[rng.integers(len(choice))]
        enlarged = ENLARGED * np.exp2(rng.normal(0, 0.3)) if rng.random() < 0.85 else rng.uniform(1, ENLARGED)
        part = _part(image, face, math.ceil(side / enlarged * (math.cos(turn) + math.sin(turn))) + 4, rng)
        good = photos.recolour(part, rng)
        poor = impoverish(good, random_poverty(rng), rng)
        matrix = _to_view(good, side, enlarged, rng)
        yield _seen(poor, matrix, side), _seen(good, matrix, side)


def _part(image: Image, face: photos.Box | None, side: int, rng: np.random.Generator) -> Image:
    """A part of the photo, `side` pixels wide where the photo is large enough, mirrored, turned and made smaller."""
    height, width = image.shape[:2]
    shrink = min(rng.uniform(1, 2), max(1.0, min(height, width) / side)) if rng.random() < 0.6 else 1.0
    extent = np.minimum(round(side * shrink), (width, height))
    left, top, right, bottom = face or (0, 0, width, height)
    middle = rng.uniform((left, top), (right, bottom))
    x, y = np.clip(middle - extent / 2, 0, (width, height) - extent).round().astype(int)
    part = image[y : y + extent[1], x : x + extent[0]]
    if shrink > 1:
        part = np.asarray(cv2.resize(part, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA), np.uint8)
    part = part[:, :: rng.choice((-1, 1))]
    return np.ascontiguousarray(part if face else np.rot90(part, int(rng.integers(4))))


def _to_view(part: Image, side: int, enlarged: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """From the part to the view of its middle, `(2, 3)`."""
    height, width = part.shape[:2]
    x, y = (np.array([width, height]) - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    matrix = cv2.getRotationMatrix2D((x, y), rng.uniform(-TURNED, TURNED), enlarged)
    matrix[:, 2] += (side - 1) / 2 - np.array((x, y))
    return np.asarray(matrix)


def _seen(part: Image, matrix: NDArray[np.float64], side: int) -> Image:
    """Bilinear, as the flow cuts faces out, but nowhere black."""
    view = cv2.warpAffine(part, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(view, np.uint8)
