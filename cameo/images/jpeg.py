"""Decodes whole JPEGs in colour by simplejpeg, where it is installed: Pillow's pixels in half the time.

Both are libjpeg-turbo; Pillow keeps four bytes a pixel and copies them (docs/decisions/209).
"""

from __future__ import annotations

from typing import BinaryIO, Final

import numpy as np
from PIL import Image

from cameo.pixels import Pixels

try:
    from simplejpeg import decode_jpeg
except ImportError:  # it comes with the extra serve, where milliseconds count
    decode_jpeg = None

_END: Final = b"\xff\xd9"


def colour_jpeg(image: Image.Image, stream: BinaryIO | None) -> Pixels | None:
    """The pixels of an opened image, uint8 `(H, W, 3)` RGB as its file has them; `stream` is its file.

    None for what is left to Pillow, to decode or to refuse: other formats and colours, files that end early or
    on which libjpeg has anything to remark.
    """
    if decode_jpeg is None or stream is None or image.format not in ("JPEG", "MPO") or image.mode != "RGB":
        return None
    stream.seek(0)
    content = stream.read()
    if not content.endswith(_END):
        return None
    try:
        pixels = decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None
    return np.asarray(pixels) if pixels.shape == (image.height, image.width, 3) else None
