"""How many frames or pages a file has, from its headers alone: Pillow would decode or parse every one to count them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, Final

from PIL import Image

MOST: Final = 9_999
"""Counted no further: a file of 64 MiB can hold five million."""


def frames_note(image: Image.Image, stream: BinaryIO) -> str:
    """A sentence if the image is the first of several frames, else ""; `stream` is its file."""
    count = _count(image, stream)
    if count < 2:
        return ""
    return f"Only the first of {f'more than {MOST}' if count > MOST else count} frames was read."


def _count(image: Image.Image, stream: BinaryIO) -> int:
    # JPEG's and HEIC's further pictures are previews and depth maps, no frames.
    if image.format in ("PNG", "WEBP", "AVIF"):
        return int(getattr(image, "n_frames", 1))
    walk = {"GIF": _gif_frames, "TIFF": _tiff_pages}.get(image.format or "")
    if walk is None:
        return 1
    place = stream.tell()
    try:
        return sum(1 for _ in islice(walk(stream), MOST + 1))
    except (struct.error, IndexError):  # a file that ends early has the frames until there
        return 1
    finally:
        stream.seek(place)


def _gif_frames(stream: BinaryIO) -> Iterator[int]:
    """Where each image begins (GIF89a, 18 to 26)."""
    stream.seek(10)
    stream.seek(13 + _colours(stream.read(1)[0]))
    while kind := stream.read(1):
        if kind == b"!":
            stream.seek(1, os.SEEK_CUR)
        elif kind == b",":
            yield stream.tell()
            stream.seek(8, os.SEEK_CUR)
            stream.seek(_colours(stream.read(1)[0]) + 1, os.SEEK_CUR)
        else:
            return
        while size := stream.read(1)[0]:
            stream.seek(size, os.SEEK_CUR)


def _colours(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _tiff_pages(stream: BinaryIO) -> Iterator[int]:
    """Where each directory begins that is no smaller version of another (TIFF 6.0, section 2; BigTIFF)."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(f"{order}H", head[2:4])[0] == 43
    counts, offsets, entry = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
    (place,) = struct.unpack(offsets, head[8:16] if big else head[4:8])
    for _ in range(2 * MOST):  # directories may form a ring
        if not place:
            return
        stream.seek(place)
        (count,) = struct.unpack(counts, stream.read(struct.calcsize(counts)))
        tag, value = struct.unpack(f"{order}H{'10x' if big else '6x'}I", stream.read(16 if big else 12))
        if not (tag == 254 and value & 1):  # NewSubfileType, the first in order
            yield place
        stream.seek(place + struct.calcsize(counts) + entry * count)
        (place,) = struct.unpack(offsets, stream.read(struct.calcsize(offsets)))
