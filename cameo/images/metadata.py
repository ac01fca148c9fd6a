"""EXIF: which way up a photo is, what colours it is in, and what of it goes to the result.

To the result goes what says when, with what and by whom the photo was taken (EXIF 2.32, tables 4 to 8). Not the place
(GPS), the thumbnail, which shows the photo as it was, serial numbers and what makers add without saying what it is:
the list is of what is kept (docs/decisions/104).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, TiffTags
from PIL.ExifTags import IFD, Base

from cameo.images.files import quiet

_KEPT: Final = tuple("ImageDescription Make Model DateTime Artist Copyright XPTitle XPAuthor".split())
_KEPT_OF_EXPOSURE: Final = tuple(
    "ExposureTime FNumber ExposureProgram ISOSpeedRatings SensitivityType DateTimeOriginal DateTimeDigitized "
    "OffsetTime OffsetTimeOriginal OffsetTimeDigitized SubsecTime SubsecTimeOriginal SubsecTimeDigitized "
    "ShutterSpeedValue ApertureValue BrightnessValue ExposureBiasValue MaxApertureValue MeteringMode LightSource "
    "Flash FocalLength FocalLengthIn35mmFilm ExposureMode WhiteBalance SceneCaptureType LensSpecification "
    "LensMake LensModel".split()
)
_MOST_BYTES: Final = 1000  # of one value: all together have to fit into the 64 KiB of a JPEG's segment
_SRGB: Final = 1  # of ColorSpace; 2, for Adobe RGB, is no standard but found
_UPRIGHT: Final = 1


@dataclass(frozen=True)
class Exif:
    """`orientation` 1 to 8; `adobe_rgb`: whether the colours are said to be so; `kept`: what the result gets, or b"".

    `damaged`: whether it could not be read.
    """

    orientation: int = _UPRIGHT
    adobe_rgb: bool = False
    kept: bytes = b""
    damaged: bool = False


def read_exif(image: Image.Image) -> Exif:
    """The EXIF data of an image."""
    with quiet():
        try:
            tags = image.getexif()
            orientation = _orientation(tags)
        except Exception:  # damaged tags do not make the pixels unreadable: viewers show such photos, so do we
            return Exif(damaged=True)
        if not tags:
            return Exif()
        try:
            return Exif(orientation, _says_adobe_rgb(tags), _kept(tags))
        except Exception:
            return Exif(orientation, damaged=True)


def _orientation(tags: Image.Exif) -> int:
    try:
        return int(tags.get(Base.Orientation, _UPRIGHT))
    except (TypeError, ValueError):
        return _UPRIGHT


def _says_adobe_rgb(tags: Image.Exif) -> bool:
    space = tags.get_ifd(IFD.Exif).get(Base.ColorSpace)
    return space == 2 or (space != _SRGB and str(tags.get_ifd(IFD.Interop).get(1, "")).startswith("R03"))


def _kept(tags: Image.Exif) -> bytes:
    result = Image.Exif()
    for name in _KEPT:
        _copy(Base[name], tags, result)
    exposure = result.get_ifd(IFD.Exif)
    for name in _KEPT_OF_EXPOSURE:
        _copy(Base[name], tags.get_ifd(IFD.Exif), exposure)
    if not result and not exposure:
        return b""
    result[Base.Orientation] = _UPRIGHT
    exposure[Base.ColorSpace] = _SRGB
    return result.tobytes()


def _copy(tag: int, source: Any, target: Any) -> None:
    """Copy one tag, if it is there and whole: a value that cannot be written would take the others with it."""
    if tag not in source:
        return
    value = source[tag]
    if isinstance(value, str) and TiffTags.lookup(tag).type == TiffTags.ASCII:
        value = value.encode("latin-1")  # the bytes as they were, often UTF-8: Pillow reads so, but writes "?"
    alone = Image.Exif()
    alone[tag] = value
    try:
        size = len(alone.tobytes())
    except Exception:  # struct.error, TypeError, OverflowError and more
        return
    if size <= _MOST_BYTES:
        target[tag] = value
