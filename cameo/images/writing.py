"""Images out: uint8 RGB becomes a file, in sRGB and said to be so, written whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cameo.errors import OutputError
from cameo.images.icc import SRGB
from cameo.pixels import Pixels

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True)
class Encoding:
    """`quality` 1 to 100 of JPEG and WebP; how hard PNG tries to be small, `png_level` 1 to 9, changes no pixel."""

    quality: int = 95
    png_level: int = 6

    def settings(self, encoding: str) -> dict[str, int]:
        """What Pillow is told."""
        if encoding == "PNG":
            return {"compress_level": self.png_level}
        # 4:4:4 (subsampling 0), because cartoons have sharp edges between saturated colours.
        return {"quality": self.quality, **({"subsampling": 0} if encoding == "JPEG" else {})}


def check_output(path: str | Path) -> str:
    """The format ("PNG", "JPEG" or "WEBP") that `write_image` will use; call it before the work is done.

    Raises:
        OutputError: the suffix is unknown, or the folder cannot be made or written to.
    """
    if not isinstance(path, str | os.PathLike):
        raise OutputError(f"The result was to be written to {path!r:.60}, expected a path: give one.")
    path = Path(path)
    encoding = _format_of(path.suffix)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected the name of an image file: add a name such as result.png.")
    check_folder(path.parent)
    return encoding


def check_folder(folder: Path) -> None:
    """Whether files can be put into a folder that is there or can be made; nothing is made yet.

    Raises:
        OutputError: it, or what it would be made in, is no folder or cannot be written to.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputError(f"{there} is a file, expected a folder for results: choose another.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {there} cannot be written to: choose another, or change its permissions.")


def write_image(path: str | Path, image: Pixels, exif: bytes = b"") -> None:
    """Write uint8 `(H, W, 3)` RGB as PNG, JPEG or WebP, by suffix; on failure nothing is left and an old file stays.

    `exif` is what `Picture.exif` holds of the photo that it was made of.

    Raises:
        OutputError: the image cannot be encoded or written.
    """
    path = Path(path)
    check_output(path)
    write_file(path, encode_image(image, path.suffix, exif))


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: on failure nothing is left and an old file stays. Its folder is made.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        wanted = "free some space or choose another folder" if error.errno in _FULL else "choose another folder"
        raise OutputError(f"{path} could not be written ({error.strerror or error}): {wanted}.") from error
    finally:
        with suppress(OSError):  # such as a file where the folder should be
            part.unlink()


def encode_image(image: Pixels, suffix: str, exif: bytes = b"", xmp: bytes = b"", how: Encoding | None = None) -> bytes:
    """Uint8 `(H, W, 3)` RGB as the bytes of a file with that suffix, which says that it is sRGB.

    `exif` and the packet `xmp` are written as they are.

    Raises:
        OutputError: the suffix is unknown, or the format cannot hold the image.
    """
    encoding = _format_of(suffix)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise OutputError(f"The result is {image.dtype} {image.shape}, expected uint8 (H, W, 3): report this as a bug.")
    buffer = io.BytesIO()
    try:
        tags = {"exif": exif, **(how or Encoding()).settings(encoding), **_chunks(encoding, xmp)}
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, encoding, **tags)
    except (OSError, ValueError) as error:
        height, width = image.shape[:2]
        raise OutputError(f"{width}x{height} pixels do not fit into {encoding} ({error}): write a PNG.") from error
    return buffer.getvalue()


def _chunks(encoding: str, xmp: bytes) -> dict[str, Any]:
    """What says that it is sRGB, and the XMP packet."""
    if encoding != "PNG":
        return {"icc_profile": SRGB.profile(), "xmp": xmp}
    chunks = PngInfo()
    chunks.add(b"sRGB", b"\0")  # 13 bytes; perceptual, as for photos
    if xmp:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return {"pnginfo": chunks}


def _format_of(suffix: str) -> str:
    try:
        return FORMATS[suffix.lower()]
    except KeyError:
        found = f"the suffix '{suffix}'" if suffix else "no suffix"
        raise OutputError(f"The result has {found}, expected {', '.join(FORMATS)}: rename it.") from None
