"""Images out: uint8 RGB becomes a file, in sRGB and said to be so, written whole or not at all."""

from __future__ import annotations

import io
import os
import uuid
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cameo.errors import OutputError
from cameo.images.icc import SRGB
from cameo.pixels import Pixels

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# 4:4:4 (subsampling 0), because cartoons have sharp edges between saturated colours.
_ENCODER: Final[dict[str, dict[str, int]]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}


def check_output(path: str | Path) -> str:
    """The format ("PNG", "JPEG" or "WEBP") that `write_image` will use; call it before the work is done.

    Raises:
        OutputError: the suffix is unknown, or the folder is missing or cannot be written to.
    """
    path = Path(path)
    encoding = _format_of(path.suffix)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected the name of an image file: add a name such as result.png.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} of {path.name} does not exist: create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {path.parent} cannot be written to: choose another, or change its permissions.")
    return encoding


def write_image(path: str | Path, image: Pixels, exif: bytes = b"") -> None:
    """Write uint8 `(H, W, 3)` RGB as PNG, JPEG or WebP, by suffix; on failure nothing is left and an old file stays.

    `exif` is what `Picture.exif` holds of the photo that it was made of.

    Raises:
        OutputError: the image cannot be encoded or written.
    """
    path = Path(path)
    check_output(path)
    content = encode_image(image, path.suffix, exif)
    part = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written ({error.strerror or error}): free some space or choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def encode_image(image: Pixels, suffix: str, exif: bytes = b"") -> bytes:
    """Uint8 `(H, W, 3)` RGB as the bytes of a file with that suffix, which says that it is sRGB; `exif` as it is.

    Raises:
        OutputError: the suffix is unknown, or the format cannot hold the image.
    """
    encoding = _format_of(suffix)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise OutputError(f"The result is {image.dtype} {image.shape}, expected uint8 (H, W, 3): report this as a bug.")
    buffer = io.BytesIO()
    try:
        tags = {"exif": exif, **_ENCODER[encoding], **_says_srgb(encoding)}
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, encoding, **tags)
    except (OSError, ValueError) as error:
        height, width = image.shape[:2]
        raise OutputError(f"{width}x{height} pixels do not fit into {encoding} ({error}): write a PNG.") from error
    return buffer.getvalue()


@cache
def _says_srgb(encoding: str) -> dict[str, Any]:
    if encoding != "PNG":
        return {"icc_profile": SRGB.profile()}
    chunks = PngInfo()
    chunks.add(b"sRGB", b"\0")  # 13 bytes; perceptual, as for photos
    return {"pnginfo": chunks}


def _format_of(suffix: str) -> str:
    try:
        return FORMATS[suffix.lower()]
    except KeyError:
        found = f"the suffix '{suffix}'" if suffix else "no suffix"
        raise OutputError(f"The result has {found}, expected {', '.join(FORMATS)}: rename it.") from None
