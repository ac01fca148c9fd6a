"""What a file says about its colours: an ICC profile, or the name or numbers of a colour space.

In the order of the PNG specification (third edition, 4.3), which suits the other formats too: code points (cICP, nclx),
a profile, sRGB, gAMA with cHRM; after them EXIF, which names sRGB or, by DCF 2.0, Adobe RGB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from PIL import Image

from cameo.images.icc import ADOBE_RGB, BT709, SRGB_CURVE, Chromaticities, ColourSpace, Curve

# ITU-T H.273, tables 2 and 3. BT.601's primaries (5, 6) are missing: they are a habit of encoders, and near BT.709's.
_PRIMARIES: Final[dict[int, Chromaticities]] = {
    1: BT709,
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
# Video's curves (1, 6, 14, 15) are shown by screens as sRGB is.
_CURVES: Final[dict[int, Curve]] = {
    **dict.fromkeys((1, 6, 13, 14, 15), SRGB_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
}
_HDR: Final = {16: "PQ", 18: "HLG"}
_NEAR: Final = 0.05  # libpng's threshold: a gamma that differs by less from the screen's is not corrected


@dataclass(frozen=True)
class Declared:
    """`profile`: the bytes of an ICC profile, or b"" for sRGB; `note`: what of it cannot be followed, or ""."""

    profile: bytes = b""
    note: str = ""


def declared(image: Image.Image, stream: BinaryIO | None, adobe_rgb: bool) -> Declared:
    """What the image is in; `stream` is its file, `adobe_rgb` what EXIF says."""
    points = _code_points(image, stream)
    if points is not None and (points[1] in _HDR or (points[0] in _PRIMARIES and points[1] in _CURVES)):
        return _of_code_points(*points)
    info = image.info
    if "icc_profile" in info and info["icc_profile"] is None:  # Pillow could not put it together
        return Declared(note=note_on("is damaged"))
    if info.get("icc_profile"):
        return Declared(info["icc_profile"])
    if "srgb" in info:
        return Declared()
    if "gamma" in info or "chromaticity" in info:
        return _of_numbers(info.get("gamma"), info.get("chromaticity"))
    return Declared(ADOBE_RGB.profile()) if adobe_rgb else Declared()


def note_on(reason: str) -> str:
    """The sentence about a colour profile that was not followed."""
    return f"The colour profile of the photo {reason}: it was ignored, colours may be off."


def _of_code_points(primaries: int, transfer: int) -> Declared:
    if transfer in _HDR:
        return Declared(
            note=f"The photo is of high dynamic range ({_HDR[transfer]}), which is not tone-mapped: colours may be off."
        )
    if primaries == 1 and _CURVES[transfer] == SRGB_CURVE:
        return Declared()
    return Declared(ColourSpace("Code points", _PRIMARIES[primaries], _CURVES[transfer]).profile())


def _of_numbers(gamma: float | None, chromaticities: tuple[float, ...] | None) -> Declared:
    power = 1 / gamma if gamma else 0.0
    curve: Curve = SRGB_CURVE if not gamma or abs(gamma * 2.2 - 1) < _NEAR else (power,)
    if curve == SRGB_CURVE and not chromaticities:
        return Declared()
    try:
        corners = cast("Chromaticities", tuple(chromaticities)) if chromaticities else BT709
        return Declared(ColourSpace("gAMA and cHRM", corners, curve).profile())
    except ValueError:
        return Declared(note=note_on("is damaged"))


def _code_points(image: Image.Image, stream: BinaryIO | None) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics, where the file has such."""
    nclx = image.info.get("nclx_profile")
    if nclx and not image.info.get("icc_profile"):
        return int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])
    if stream is None or image.format not in ("PNG", "AVIF"):
        return None
    place = stream.tell()
    try:
        return _cicp(stream) if image.format == "PNG" else _nclx(stream, image)
    finally:
        stream.seek(place)


def _cicp(stream: BinaryIO) -> tuple[int, int] | None:
    """Those of a PNG's cICP, which stands before the pixels."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"cICP" and size == 4:
            return cast("tuple[int, int]", tuple(stream.read(2).ljust(2, b"\0")))
        if kind in (b"IDAT", b"IEND"):
            break
        stream.seek(size + 4, 1)
    return None


def _nclx(stream: BinaryIO, image: Image.Image) -> tuple[int, int] | None:
    """Those of an AVIF's colour box, which Pillow does not tell."""
    stream.seek(0)
    content = stream.read(65536)
    at = content.find(b"colrnclx")
    if at < 0 or image.info.get("icc_profile") or len(content) < at + 12:
        return None
    return cast("tuple[int, int]", struct.unpack(">HH", content[at + 8 : at + 12]))
