"""What lies over a face: hair, hats, glasses, earrings, whatever ParseNet takes for no part of the head.

ParseNet has no class for a hand, a cup or a microphone: where it sees one at all, it says background or cloth, and both
are kept.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.faces.alignment import similarity_in_crop_frame, square_template
from cameo.faces.face import Face, Matrix
from cameo.faces.paste import MASK_SIZE, Mask, crop_from
from cameo.faces.restoring import ZOOM
from cameo.pixels import Pixels
from cameo.session import Session

# ParseNet's skin, nose, eyes, brows, ears, mouth, lips and neck; not background, glasses, hair, hat, earring, necklace,
# cloth.
HEAD: Final = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17)
RIM: Final = 6  # pixels of the mask's 512 over which it fades, all of them on the head


def bare_head(parser: Session, photo: Pixels, face: Face, border: int) -> tuple[Mask, Matrix]:
    """Where a face lies bare, float32 `(512, 512)` in 0..1, and the matrix from photo to that; 0 is kept as it is.

    `parser` maps `image` to `mask`, the logits of 19 classes; `border` is how OpenCV goes on where the photo ends.

    Raises:
        PhotoError: the face's five points coincide.
    """
    to_crop = similarity_in_crop_frame(face.five_points.astype(np.float32), square_template(MASK_SIZE, ZOOM))
    crop = crop_from(photo, to_crop, MASK_SIZE, border)
    return bare(parser.run({"image": crop[None]})["mask"][0]), to_crop


def bare(logits: NDArray[Any]) -> Mask:
    """The mask of ParseNet's logits `(19, 512, 512)`: exactly 0 where something lies over the head."""
    head = np.isin(logits.argmax(axis=0), HEAD).astype(np.float32)
    window = (2 * RIM + 1, 2 * RIM + 1)
    inner = cv2.erode(head, np.ones(window, np.uint8), borderType=cv2.BORDER_REPLICATE)
    faded = np.asarray(cv2.blur(inner, window, borderType=cv2.BORDER_REPLICATE), np.float32)
    return np.where(head > 0, faded, np.float32(0))  # a running sum leaves traces where there is nothing
