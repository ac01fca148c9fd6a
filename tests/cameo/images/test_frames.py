"""Of an animated or multi-page file the first frame is taken, and that is said."""

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from cameo.images import read_picture
from tests.support import fill
from tests.support.photo_files import file_of

FRAMES = [Image.fromarray(fill.smooth_u8(f"images/frame{at}", 24, 32)) for at in range(3)]


def several(encoding, count=3, **options):
    first, *others = (frame.copy() for frame in FRAMES[:count])
    return file_of(first, encoding, save_all=True, append_images=others, **options)


@pytest.mark.parametrize(
    ("encoding", "options"),
    [
        ("GIF", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_tiff": True}),
    ],
)
def test_first_of_several_frames(encoding, options):
    picture = read_picture(several(encoding, **options))
    assert picture.note == "Only the first of 3 frames was read."
    alone = read_picture(file_of(FRAMES[0], encoding, **options)).pixels.astype(int)
    assert np.abs(picture.pixels - alone).max() <= (0 if encoding != "AVIF" else 20)


@pytest.mark.parametrize("encoding", ["GIF", "PNG", "WEBP", "TIFF", "JPEG", "BMP", "AVIF"])
def test_one_frame_needs_no_note(encoding):
    assert read_picture(file_of(FRAMES[0], encoding)).note == ""


def test_preview_of_a_multi_picture_jpeg_is_no_frame():
    assert read_picture(several("MPO", quality=90)).note == ""


def test_thumbnail_of_a_tiff_is_no_page():
    thumbnail = Image.new("RGB", (8, 8))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    content = file_of(FRAMES[0], "TIFF", save_all=True, append_images=[thumbnail])
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert read_picture(content).note == ""


def test_a_frame_chosen_by_the_caller_is_no_surprise():
    image = Image.open(io.BytesIO(several("GIF")))
    image.seek(1)
    assert read_picture(image).note == ""


def test_many_frames_are_not_all_counted():
    head = file_of(FRAMES[0].convert("P"), "GIF")[:-1]
    tiny = b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    started = time.perf_counter()
    picture = read_picture(head + tiny * 1_000_000 + b";")
    assert time.perf_counter() - started < 2
    assert picture.note == "Only the first of more than 9999 frames was read."


def test_ring_of_tiff_pages_ends():
    content = bytearray(several("TIFF", 2))
    (first,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[first : first + 2])
    at = first + 2 + 12 * entries
    content[at : at + 4] = content[4:8]
    assert "Only the first of" in read_picture(bytes(content)).note
