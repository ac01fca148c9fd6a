"""A JPEG without its end marker has every pixel; a file that ends early is refused, unless that is allowed."""

import threading

import numpy as np
import pytest
from PIL import Image, ImageFile

from cameo.errors import PhotoError
from cameo.images import ReadOptions, read_photo, read_picture
from tests.support import fill
from tests.support.photo_files import file_of

PIXELS = fill.smooth_u8("images/truncation", 120, 200)
IMAGE = Image.fromarray(PIXELS)
FLAT = Image.new("RGB", (200, 120), (130, 120, 110))
KINDS = {
    "baseline": (IMAGE, {}),
    "progressive": (IMAGE, {"progressive": True}),
    "restarts": (IMAGE, {"restart_marker_blocks": 3}),
    "restarts by row": (IMAGE, {"restart_marker_rows": 1, "subsampling": 0}),
    "optimised": (IMAGE, {"optimize": True, "subsampling": 1}),
    "grey": (IMAGE.convert("L"), {}),
    "CMYK": (IMAGE.convert("CMYK"), {}),
    "flat": (FLAT, {}),
    "flat progressive": (FLAT, {"progressive": True}),
    "flat restarts": (FLAT, {"restart_marker_blocks": 1}),
}
ALLOWED = ReadOptions(allow_truncated=True)


@pytest.fixture(params=KINDS)
def jpeg(request):
    image, options = KINDS[request.param]
    content = file_of(image, "JPEG", **options)
    assert content.endswith(b"\xff\xd9")
    return content


@pytest.mark.parametrize("tail", [b"", b"\xff", b"\0" * 4096])
def test_jpeg_without_its_end_marker_has_every_pixel(jpeg, tail):
    picture = read_picture(jpeg[:-2] + tail)
    np.testing.assert_array_equal(picture.pixels, read_photo(jpeg))
    assert picture.note == ""


@pytest.mark.parametrize("tail", [b"", b"\0" * 4096])
def test_truncated_jpeg_is_refused(jpeg, tail):
    """Or all that is missing are bits that no pixel depends on."""
    whole = read_photo(jpeg)
    begin = jpeg.rindex(b"\xff\xda") + 14
    for end in {*range(begin, len(jpeg) - 2, max(1, (len(jpeg) - begin) // 30)), *range(len(jpeg) - 8, len(jpeg) - 2)}:
        try:
            found = read_photo(jpeg[:end] + tail)
        except PhotoError as error:
            assert "is damaged" in str(error)  # noqa: PT017  # either is right
        else:
            np.testing.assert_array_equal(found, whole)


def test_progressive_jpeg_without_its_last_scans_is_refused():
    content = file_of(IMAGE, "JPEG", progressive=True)
    starts = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    for start in starts[1:]:
        with pytest.raises(PhotoError, match="is damaged"):
            read_photo(content[:start])


def test_jpeg_cut_between_restarts_is_refused():
    content = file_of(FLAT, "JPEG", restart_marker_blocks=1)
    for marker in range(0xD0, 0xD8):
        at = content.rindex(bytes((0xFF, marker)))
        for end in (at, at + 1, at + 2):
            with pytest.raises(PhotoError, match="is damaged"):
                read_photo(content[:end])


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "BMP", "GIF"])
def test_truncated_file_is_read_as_far_as_it_goes_where_allowed(encoding):
    image = IMAGE.convert("P") if encoding == "GIF" else IMAGE
    content = file_of(image, encoding)
    whole = read_photo(content)
    half = content[: len(content) // 2]
    with pytest.raises(PhotoError, match=r"is damaged .* or take what there is by `allow_truncated`\."):
        read_photo(half)
    picture = read_picture(half, ALLOWED)
    assert picture.note == "The file is truncated: the missing part of the photo is blank."
    same = (picture.pixels == whole).all(axis=(1, 2))
    assert 20 < same.sum() < 110
    assert read_picture(content, ALLOWED).note == ""


def test_damaged_file_is_refused_even_so():
    content = bytearray(file_of(IMAGE))
    content[len(content) // 2] ^= 255
    for options in (ALLOWED, ReadOptions()):
        with pytest.raises(PhotoError, match="is damaged") as refused:
            read_picture(bytes(content), options)
        assert "truncated" not in str(refused.value), "it would not help"


def test_progressive_jpeg_is_read_as_far_as_it_goes_where_allowed():
    content = file_of(IMAGE, "JPEG", progressive=True)
    picture = read_picture(content[: len(content) * 3 // 4], ALLOWED)
    assert "is truncated" in picture.note
    assert np.abs(picture.pixels.astype(int) - PIXELS).mean() < 20


def test_nothing_of_the_process_is_changed():
    content = file_of(IMAGE, "JPEG")[:-700]
    found = []
    threads = [threading.Thread(target=lambda: found.append(read_picture(content, ALLOWED))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        with pytest.raises(PhotoError, match="is damaged"):
            read_photo(content)
    for thread in threads:
        thread.join()
    assert [picture.note != "" for picture in found] == [True] * 4
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
