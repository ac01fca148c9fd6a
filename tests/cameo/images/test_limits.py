"""Too large is an error of its own, told before decoding, whatever it is that does not fit."""

import time

import numpy as np
import pytest
from PIL import Image, ImageFile

from cameo.errors import PhotoTooLarge
from cameo.images import MAX_ASPECT, MAX_SIDE, Picture, ReadOptions, jpeg, read_photo, read_picture
from tests.support.photo_files import bomb, file_of

LEVEL = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (bomb(49_999_999, 1), "49999999x1, expected sides of at most 65535"),
        (bomb(1, 49_999_999), "1x49999999, expected sides of at most 65535"),
        (bomb(60_060, 60), "60060x60, expected a long side of at most 1000 short ones"),
        (bomb(15_000, 10_000), "15000x10000, 150,000,000 pixels, expected at most 120,000,000"),
        (bomb(20_000, 20_000), "is too large"),
        (np.zeros((1, MAX_SIDE + 1, 3), np.uint8), "The array is 65536x1, expected sides"),
        (Image.new("L", (1, MAX_ASPECT + 1)), "The PIL image is 1x1001, expected a long side"),
        (Picture(np.zeros((400, 300_001, 3), np.uint8)), "300001x400, 120,000,400 pixels"),
    ],
)
def test_too_large_is_told_from_the_header(source, message):
    started = time.perf_counter()
    with pytest.raises(PhotoTooLarge, match=message) as caught:
        read_photo(source)
    assert time.perf_counter() - started < 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("width", "height"), [(16_384, 1_024), (MAX_SIDE, 400), (MAX_ASPECT, 1)])
def test_panoramas_pass(width, height):
    assert read_photo(file_of(Image.new("1", (width, height)))).shape == (height, width, 3)


def test_own_limit():
    with pytest.raises(PhotoTooLarge, match="expected at most 63"):
        read_picture(LEVEL, ReadOptions(max_pixels=63))
    hard = ReadOptions(max_side=3000)
    assert read_picture(np.zeros((3000, 3000, 3), np.uint8), hard).pixels.shape == (3000, 3000, 3)
    for source in (bomb(3001, 30), bomb(30, 3001), np.zeros((3001, 30), np.uint8), Image.new("L", (3001, 30))):
        with pytest.raises(PhotoTooLarge, match="expected sides of at most 3000: shrink it"):
            read_picture(source, hard)


@pytest.mark.parametrize("source", [file_of(Image.fromarray(LEVEL)), file_of(Image.fromarray(LEVEL), "JPEG")])
def test_no_memory_while_decoding(monkeypatch, source):
    def load(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(jpeg, "decode_jpeg", load)
    for options in (ReadOptions(), ReadOptions(allow_truncated=True)):
        with pytest.raises(PhotoTooLarge, match="does not fit into the memory"):
            read_picture(source, options)


def test_no_memory_after_decoding(monkeypatch):
    def convert(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", convert)
    for source in (Image.new("L", (8, 8)), file_of(Image.new("L", (8, 8))), np.zeros((8, 8), np.uint8)):
        with pytest.raises(PhotoTooLarge, match="does not fit into the memory"):
            read_photo(source)
