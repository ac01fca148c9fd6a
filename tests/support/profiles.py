"""ICC profiles from numbers, and what they mean, computed apart from any colour library."""

import struct
from dataclasses import dataclass

import numpy as np

D50 = np.array((0.9642, 1.0, 0.8249))
BRADFORD = np.array([(0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)])
D65 = (0.3127, 0.3290)


@dataclass(frozen=True)
class Space:
    """Primaries and white as (x, y); `gamma` None is the curve of sRGB."""

    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]
    white: tuple[float, float] = D65
    gamma: float | None = None

    def to_d50(self):
        columns = np.stack([(x / y, 1, (1 - x - y) / y) for x, y in (self.red, self.green, self.blue)], axis=1)
        white = np.array((self.white[0] / self.white[1], 1, (1 - sum(self.white)) / self.white[1]))
        gains = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
        return np.linalg.inv(BRADFORD) @ gains @ BRADFORD @ (columns * (np.linalg.inv(columns) @ white))

    def light(self, values):
        return srgb_light(values) if self.gamma is None else values**self.gamma


SRGB = Space((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = Space((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_RGB = Space((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), gamma=563 / 256)
PROPHOTO = Space((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585), gamma=1.8)


def srgb_light(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_values(light):
    """0..255 of light 0..1."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def reference(pixels, space):
    """What pixels 0..255 of a space are in sRGB, float 0..255."""
    matrix = np.linalg.inv(SRGB.to_d50()) @ space.to_d50()
    return srgb_values(space.light(np.asarray(pixels) / 255) @ matrix.T)


def matrix_profile(space, version=2):
    """A display profile; the curve is a table of 1024 in version 2, as HP's sRGB has it, else parameters or a power."""
    tags = {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), space.to_d50().T, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(space, version))
    return profile({**tags, **curves}, b"RGB ", version=version)


def grey_profile(gamma):
    return profile({b"kTRC": curve(Space((0, 0), (0, 0), (0, 0), gamma=gamma), 2)}, b"GRAY")


def table_profile(space, **tables):
    """By tables `A2B0` (perceptual), `A2B1`: Lab at the corners of the cube of inks or colours, the last fastest."""
    kind = {b"CMYK": b"prtr", b"RGB ": b"scnr"}[space]
    return profile({name.encode(): lut16(corners) for name, corners in tables.items()}, space, kind, pcs=b"Lab ")


def curve(space, version):
    if space.gamma is not None:
        return b"curv" + struct.pack(">4xIH", 1, round(space.gamma * 256))
    if version == 2:
        table = np.rint(srgb_light(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
        return b"curv" + struct.pack(">4xI", 1024) + table.tobytes()
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + struct.pack(">4xHxx5i", 3, *(round(number * 65536) for number in numbers))


def xyz(numbers):
    return b"XYZ " + struct.pack(">4x3i", *(round(float(number) * 65536) for number in numbers))


def lut16(corners):
    channels = len(corners).bit_length() - 1
    matrix = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    straight = struct.pack(">2H", 0, 65535)
    lab = np.array([(light * 65280 / 100, (a + 128) * 256, (b + 128) * 256) for light, a, b in corners])
    table = np.rint(lab).astype(">u2").tobytes()
    return (
        b"mft2"
        + struct.pack(">4x4B", channels, 3, 2, 0)
        + matrix
        + struct.pack(">2H", 2, 2)
        + straight * channels
        + table
        + (straight * 3)
    )


def profile(tags, space, kind=b"mntr", version=2, pcs=b"XYZ "):
    description = b"desc" + struct.pack(">4xI5s78x", 5, b"test\0")
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(D50), **tags}
    at, places, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        places += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x",
        at + len(body),
        version << 24,
        kind,
        space,
        pcs,
        b"acsp",
        *(round(number * 65536) for number in D50),
    )
    return head + struct.pack(">I", len(tags)) + places + body
