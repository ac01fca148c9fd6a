"""Decodes an image's pixels, and tells a JPEG that only lacks its end marker from one that lacks pixels.

Pillow refuses both, unless a global of the whole process lets it take both. Whether pixels are missing is found out by
decoding twice, ended right away and ended after bits of another kind: if all pixels are there, the decoder has no use
for what follows them, and both pictures are equal; what is missing is made up from the bits, or grey
(docs/decisions/101).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

import numpy as np
from PIL import Image

from cameo.images.files import open_image

_END: Final = b"\xff\xd9"
_BITS: Final = (b"\x55", b"\xaa", b"\x00\x00\x01")  # that mean something in every Huffman table
# What one unit can take: 10 blocks of 64 coefficients with codes of 16 bits and values of 11 (ITU T.81, B.2.3, F.1.2).
_UNIT_BYTES: Final = 10 * 64 * 27 // 8
_PADDING: Final = 16  # zeros at the end from which on a file counts as padded
_NOTE: Final = "The file is truncated: the missing part of the photo is blank."


class EndsEarlyError(OSError):
    """Damage that `allow_truncated` would take."""


def load(image: Image.Image, stream: BinaryIO | None, allow_truncated: bool) -> tuple[Image.Image, str]:
    """The image with its pixels decoded, perhaps another object, and a note if some are missing; `stream` is its file.

    Raises:
        EndsEarlyError: the file is truncated, and `allow_truncated` is not set.
        Exception: what Pillow raises on other damage.
    """
    if stream is None:
        image.load()
        return image, ""
    is_jpeg = image.format in ("JPEG", "MPO")
    try:
        image.load()
    except OSError as error:
        if "truncated" not in str(error):  # as Pillow says it of every format; anything else is damage
            raise
        if is_jpeg and (ended := _ended(stream, allow_truncated)) is not None:
            return ended
        if not allow_truncated:
            raise EndsEarlyError(str(error)) from error
        image.tile = []  # type: ignore[attr-defined]  # nothing more to decode: the pixels so far are the image
        image.load()
        return image, _NOTE
    if is_jpeg and _is_padded(stream):  # Pillow takes zeros for pixels
        ended = _ended(stream, allow_truncated)
        if ended is None:
            raise EndsEarlyError("image file is truncated, and zeros follow")
        return ended
    return image, ""


def _ended(stream: BinaryIO, allow_truncated: bool) -> tuple[Image.Image, str] | None:
    """The image of a JPEG whose end marker is missing; None if pixels are missing too and that is not allowed."""
    stream.seek(0)
    content = _without_padding(stream.read())
    whole = _has_every_scan(content)
    if not whole and not allow_truncated:
        return None
    image = _decoded(content + _END)
    if whole and not content.endswith(_END):
        pixels = np.asarray(image)
        whole = all(
            np.array_equal(pixels, np.asarray(_decoded(content + filler + _END))) for filler in _fillers(content)
        )
    return (image, "" if whole else _NOTE) if whole or allow_truncated else None


def _fillers(content: bytes) -> Iterator[bytes]:
    """What may follow the pixels: bits, and the restart markers that a decoder may be waiting for, in their order."""
    last = max(range(8), key=lambda number: content.rfind(bytes((0xFF, 0xD0 + number))))
    for bits in _BITS:
        unit = bits * (_UNIT_BYTES // len(bits) + 1)
        yield b"".join(unit + bytes((0xFF, 0xD0 + (last + number) % 8)) for number in range(1, 17))


def _is_padded(stream: BinaryIO) -> bool:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _PADDING))
    return not stream.read().strip(b"\0")


def _decoded(content: bytes) -> Image.Image:
    image = open_image(io.BytesIO(content), "The photo")
    image.load()
    return image


def _without_padding(content: bytes) -> bytes:
    """The file without half a marker, and without zeros behind it, which storage adds and decoders take for pixels."""
    stripped = content.rstrip(b"\0")
    if stripped.endswith(b"\xff"):
        return stripped + b"\0" if len(stripped) < len(content) else stripped[:-1]
    return stripped


def _has_every_scan(content: bytes) -> bool:
    """Whether scans for all coefficients of all components, to their last bit, have begun (ITU T.81, B.2.3, G.1.1)."""
    wanted: set[tuple[int, int]] = set()
    for marker, segment in _segments(content):
        if marker in (0xC0, 0xC1, 0xC2):
            parts = segment[6::3][: segment[5]]
            wanted = {(part, coefficient) for part in parts for coefficient in range(64)}
        elif marker == 0xDA:
            parts = segment[1 : 1 + 2 * segment[0] : 2]
            first, last, bits = segment[1 + 2 * segment[0] :][:3]
            if bits & 0x0F == 0:
                wanted -= {(part, coefficient) for part in parts for coefficient in range(first, last + 1)}
    return not wanted


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The markers that have a body, whole ones only."""
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        marker = content[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:  # stuffing, padding and markers without a body
            at += 1 if marker == 0xFF else 2
            continue
        size = int.from_bytes(content[at + 2 : at + 4], "big")
        if at + 2 + size > len(content):
            return
        yield marker, content[at + 4 : at + 2 + size]
        at += 2 + size
