"""ICC profiles of colour spaces that a photo names instead of describing: three primaries, a white point, a curve.

A version 4 matrix profile (ICC.1:2010, 8.3.3): linear RGB = curve(RGB), XYZ = M * linear RGB, where the columns of M
are the primaries, scaled so that white is (1, 1, 1), and adapted to the connection space's white, D50, by Bradford.
The bytes depend on nothing but the arguments: results are byte-equal from run to run.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

D50: Final = (0.9642, 1.0, 0.8249)  # ICC.1:2010, 7.2.16
BRADFORD: Final = np.array([(0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)])

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""White, red, green, blue: x and y of each, the order of PNG's cHRM."""

Curve = tuple[float, ...]
"""From a value in 0..1 to light: a power `(g,)`, or `(g, a, b, c, d)`: (a x + b)^g from d on, c x below."""

SRGB_CURVE: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1
BT709: Final = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)


@dataclass(frozen=True)
class ColourSpace:
    """An RGB colour space; `name` is ASCII."""

    name: str
    chromaticities: Chromaticities
    curve: Curve

    def profile(self) -> bytes:
        """The ICC profile.

        Raises:
            ValueError: the chromaticities span no colours, or a number does not fit.
        """
        try:
            matrix, adaptation = _to_d50(self.chromaticities)
            curve = _curve(self.curve)
            tags = {
                b"desc": _text(self.name),
                b"cprt": _text("No copyright"),
                b"wtpt": _numbers(b"XYZ ", D50),
                b"chad": _numbers(b"sf32", adaptation.ravel()),
                **{b"%cXYZ" % name: _numbers(b"XYZ ", column) for name, column in zip(b"rgb", matrix.T, strict=True)},
                **{b"%cTRC" % name: curve for name in b"rgb"},
            }
        except (np.linalg.LinAlgError, ZeroDivisionError, struct.error, OverflowError) as error:
            raise ValueError(f"no colour space: {self.chromaticities}, {self.curve}") from error
        return _file(tags)


SRGB: Final = ColourSpace("sRGB", BT709, SRGB_CURVE)
# Adobe RGB (1998) Color Image Encoding, 4.3.1: the exponent is 2 + 51/256.
ADOBE_RGB: Final = ColourSpace(
    "Adobe RGB (1998)", (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), (2 + 51 / 256,)
)


def _to_d50(chromaticities: Chromaticities) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From linear RGB to XYZ under D50, `(3, 3)`, and the adaptation in it, `(3, 3)`."""
    white, *primaries = (_xyz(*chromaticities[at : at + 2]) for at in range(0, 8, 2))
    columns = np.stack(primaries, axis=1)
    scaled = columns * np.linalg.solve(columns, white)
    gains = (BRADFORD @ D50) / (BRADFORD @ white)
    adaptation = np.linalg.solve(BRADFORD, gains[:, None] * BRADFORD)
    return adaptation @ scaled, adaptation


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array((x / y, 1.0, (1 - x - y) / y))


def _fixed(numbers: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    """S15Fixed16, big endian."""
    return b"".join(struct.pack(">i", round(float(number) * 65536)) for number in numbers)


def _numbers(kind: bytes, numbers: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    return kind + bytes(4) + _fixed(numbers)


def _curve(curve: Curve) -> bytes:
    """`parametricCurveType`: function 0 is a power, 3 has a straight piece at the start."""
    return b"para" + bytes(4) + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + _fixed(curve)


def _text(text: str) -> bytes:
    """`multiLocalizedUnicodeType` with one record."""
    content = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(content), 28) + content


def _file(tags: dict[bytes, bytes]) -> bytes:
    at, places, body = 128 + 4 + 12 * len(tags), b"", b""
    shared: dict[bytes, int] = {}
    for name, content in tags.items():
        if content not in shared:
            shared[content] = at + len(body)
            body += content + bytes(-len(content) % 4)
        places += name + struct.pack(">II", shared[content], len(content))
    return _header(at + len(body)) + struct.pack(">I", len(tags)) + places + body


def _header(size: int) -> bytes:
    kinds = b"mntrRGB XYZ "
    date = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # a real one would make every result another file
    return (
        struct.pack(">I4sI", size, bytes(4), 0x04300000) + kinds + date + b"acsp" + bytes(28) + _fixed(D50) + bytes(48)
    )
