"""JPEGs in colour are decoded by simplejpeg where it is installed: Pillow's pixels bit by bit, and its refusals."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from cameo.errors import PhotoError
from cameo.images import jpeg, read_picture
from cameo.images.files import open_image
from tests.support import fill
from tests.support.photo_files import file_of
from tests.support.profiles import DISPLAY_P3, SRGB, matrix_profile

pytest.importorskip("simplejpeg")

IMAGE = Image.fromarray(fill.smooth_u8("images/jpeg", 121, 203))
WHOLE = file_of(IMAGE, "JPEG", quality=90)
SIZES = ((203, 121), (16, 16), (17, 9), (1, 1), (300, 7))
WAYS = [
    {"quality": quality, "subsampling": subsampling, **how}
    for quality, subsampling, how in itertools.product(
        (30, 95, 100),
        ("4:4:4", "4:2:2", "4:2:0", "4:1:1"),
        ({}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3}),
    )
]


def by(content, monkeypatch, fast):
    with monkeypatch.context() as patched:
        if not fast:
            patched.setattr(jpeg, "decode_jpeg", None)
        return read_picture(content)


def decoded(content):
    stream = io.BytesIO(content)
    return jpeg.colour_jpeg(open_image(stream, "it"), stream)


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_pillow(size):
    image = IMAGE.resize(size)
    for how in WAYS:
        content = file_of(image, "JPEG", **how)
        np.testing.assert_array_equal(decoded(content), np.asarray(Image.open(io.BytesIO(content))), str(how))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"keep_rgb": True},
        {"icc_profile": matrix_profile(SRGB)},
        {"icc_profile": matrix_profile(DISPLAY_P3)},
        {"icc_profile": b"damaged"},
        {"xmp": b"<damaged"},
        *({"exif": {274: orientation, 315: "someone"}} for orientation in range(1, 9)),
    ],
    ids=str,
)
def test_what_else_the_file_says_is_followed_as_before(options, monkeypatch):
    if "exif" in options:
        tags = Image.Exif()
        tags.update(options["exif"])
        options = {"exif": tags.tobytes()}
    content = file_of(IMAGE, "JPEG", **options)
    assert decoded(content) is not None
    found, expected = (by(content, monkeypatch, fast) for fast in (True, False))
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert found.pixels.flags.c_contiguous
    assert found.pixels.flags.writeable
    assert (found.note, found.exif) == (expected.note, expected.exif)


def test_the_first_of_several_in_a_file(monkeypatch):
    content = file_of(IMAGE, "MPO", save_all=True, append_images=[IMAGE.rotate(180)])
    assert decoded(content) is not None
    np.testing.assert_array_equal(*(by(content, monkeypatch, fast).pixels for fast in (True, False)))


@pytest.mark.parametrize(
    "content",
    [
        file_of(IMAGE.convert("L"), "JPEG"),
        file_of(IMAGE.convert("CMYK"), "JPEG"),
        file_of(IMAGE),
        WHOLE[:-2],
        WHOLE + bytes(64),
        WHOLE[: len(WHOLE) // 2] + WHOLE[-2:],
        WHOLE[:-2] + b"\0\x12\x34" + WHOLE[-2:],
    ],
    ids=["grey", "CMYK", "PNG", "no end", "zeros behind", "no middle", "bits too many"],
)
def test_the_rest_is_left_to_pillow(content, monkeypatch, capfd):
    assert decoded(content) is None
    np.testing.assert_array_equal(*(by(content, monkeypatch, fast).pixels for fast in (True, False)))
    assert capfd.readouterr() == ("", ""), "libjpeg writes to the standard error of the process if it is let"


def test_damage_is_found_or_not_as_before(monkeypatch):
    generator = np.random.default_rng(5)
    read = 0
    for _ in range(200):
        content = bytearray(WHOLE)
        for at in generator.integers(2, len(content), 3):
            content[at] = generator.integers(256)
        found = []
        for fast in (True, False):
            try:
                found.append(by(bytes(content), monkeypatch, fast).pixels)
            except PhotoError as error:
                found.append(np.array(str(error)))
        np.testing.assert_array_equal(*found)
        read += found[0].ndim == 3
    assert 20 < read < 200
