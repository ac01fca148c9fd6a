"""Opens the formats that Cameo promises, and no other.

Pillow ships some forty decoders, one of which starts Ghostscript (EPS); only those named here are ever reached
(docs/decisions/102).
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from PIL import Image, UnidentifiedImageError, features

from cameo.errors import PhotoError

READABLE: Final = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Pillow's names of what every installation reads; MPO, several JPEGs in one file, is opened as JPEG."""
_ALSO_READABLE: Final = frozenset({"MPO", "AVIF", "HEIF"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})

# Warning filters belong to the whole process: two threads that change them must not restore each other's.
_WARNINGS_LOCK: Final = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep PIL's warnings from the user: what matters of them is an error or a note here.

    One thread at a time, so only for what is quick, headers and tags; pixels are decoded without a warning.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_image(stream: BinaryIO, what: str) -> Image.Image:
    """The image in a file, its pixels not yet decoded.

    Raises:
        PhotoError: it is of another format, or of one that needs an extra which is not installed.
    """
    head = stream.read(64)
    stream.seek(0)
    kind = _isobmff_kind(head)
    with quiet():
        if kind == "HEIC":
            return _open_heic(stream, what)
        if kind == "AVIF" and not features.check("avif"):
            raise PhotoError(_needs_extra(what, kind))
        try:
            return Image.open(stream, formats=("AVIF",) if kind == "AVIF" else READABLE)
        except UnidentifiedImageError:
            raise PhotoError(not_readable(what)) from None


def megapixels(files: Iterable[bytes]) -> float:
    """Millions of pixels of pictures in all, by their headers; of what cannot be read 0: who decodes it says why."""
    return sum(map(_pixels, files)) / 1e6


def _pixels(content: bytes) -> int:
    try:
        with open_image(io.BytesIO(content), "") as image:
            return image.width * image.height
    except Exception:  # a decoder may raise any, and nothing is decoded here
        return 0


def check_format(image: Image.Image, what: str) -> None:
    """Refuse a PIL image whose decoder has not run yet and is none of ours: `Image.open` alone starts no decoder.

    Raises:
        PhotoError: it is one.
    """
    if getattr(image, "tile", None) and image.format not in (*READABLE, *_ALSO_READABLE):
        raise PhotoError(f"{not_readable(what)[:-1]}, or call its load() first.")


def not_readable(what: str) -> str:
    """The sentence for what is of another format."""
    return (
        f"{what} is not an image that can be read, expected JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC: "
        "convert it to JPEG or PNG."
    )


def _isobmff_kind(head: bytes) -> str:
    """ "HEIC", "AVIF" or "", by the brands in the first box (ISO/IEC 23008-12, annex B)."""
    if head[4:8] != b"ftyp":
        return ""
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & (_HEIC_BRANDS | {b"mif1", b"msf1"}) else ""


def _open_heic(stream: BinaryIO, what: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile  # not its registration: that would change Pillow for the whole process
    except ImportError:
        raise PhotoError(_needs_extra(what, "HEIC")) from None
    image: Image.Image = HeifImageFile(stream)  # type: ignore[no-untyped-call]
    return image


def _needs_extra(what: str, kind: str) -> str:
    package = {"HEIC": "pillow-heif", "AVIF": "'pillow>=11.3'"}[kind]
    return (
        f"{what} is {kind}, which is read only with the extra heic (pip install {package}): install it, or convert the "
        "photo to JPEG or PNG."
    )
