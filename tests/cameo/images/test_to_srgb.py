"""What a file says about its colours holds: the pixels that come back are sRGB."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from cameo.images import encode_image, read_photo, read_picture, to_srgb
from cameo.images.icc import ADOBE_RGB as NAMED_ADOBE_RGB
from cameo.images.icc import SRGB as NAMED_SRGB
from tests.support import fill, profiles
from tests.support.photo_files import chunk, file_of, with_chunks
from tests.support.profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    grey_profile,
    matrix_profile,
    reference,
    table_profile,
)

PIXELS = fill.smooth_u8("images/colour", 40, 60)
IMAGE = Image.fromarray(PIXELS)
SPACES = {"Display P3": DISPLAY_P3, "Adobe RGB": ADOBE_RGB, "ProPhoto": PROPHOTO}
ENCODINGS = {"PNG": {}, "TIFF": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"quality": 90}}


def mean_error(pixels, expected):
    return np.abs(pixels.astype(float) - expected).mean()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("space", SPACES)
def test_profile_is_followed(space, version, encoding):
    options = ENCODINGS[encoding]
    stored = read_photo(file_of(IMAGE, encoding, **options))
    profile = matrix_profile(SPACES[space], version)
    picture = read_picture(file_of(IMAGE, encoding, icc_profile=profile, **options))
    expected = reference(stored, SPACES[space])
    assert mean_error(stored, expected) > 2
    assert mean_error(picture.pixels, expected) < 0.5
    assert picture.note == ""


def test_pil_image_with_a_profile():
    image = IMAGE.copy()
    image.info["icc_profile"] = matrix_profile(ADOBE_RGB)
    assert mean_error(read_photo(image), reference(PIXELS, ADOBE_RGB)) < 0.5
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


def test_threads_convert_apart():
    contents = [file_of(IMAGE, icc_profile=matrix_profile(space)) for space in SPACES.values()]
    expected = [read_photo(content) for content in contents]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(read_photo, contents * 20))
    for at, pixels in enumerate(found):
        np.testing.assert_array_equal(pixels, expected[at % len(contents)])


SRGB_PROFILES = {
    "table": matrix_profile(SRGB, 2),
    "parameters": matrix_profile(SRGB, 4),
    "LittleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "ours": NAMED_SRGB.profile(),
}


@pytest.mark.parametrize("name", SRGB_PROFILES)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_srgb_by_any_profile_stays_bit_equal(name, mode):
    image = IMAGE.convert(mode)
    found = read_photo(file_of(image, icc_profile=SRGB_PROFILES[name]))
    np.testing.assert_array_equal(found, read_photo(file_of(image)))


def test_a_profile_of_srgb_is_tried_once_and_others_every_time(monkeypatch):
    made = []
    make = to_srgb._transform
    monkeypatch.setattr(to_srgb, "_transform", lambda *of: (made.append(of), make(*of))[1])
    to_srgb._changes_nothing.cache_clear()
    for profile, transforms in ((matrix_profile(SRGB), 1), (matrix_profile(DISPLAY_P3), 3)):
        content = file_of(IMAGE, icc_profile=profile)
        first, second = read_photo(content), read_photo(content)
        np.testing.assert_array_equal(first, second)
        assert len(made) == transforms
        made.clear()


def test_large_profiles_are_not_remembered():
    to_srgb._changes_nothing.cache_clear()
    profile = matrix_profile(SRGB) + bytes(2**16)
    np.testing.assert_array_equal(read_photo(file_of(IMAGE, icc_profile=profile)), PIXELS)
    assert to_srgb._changes_nothing.cache_info().currsize == 0


def test_named_spaces_mean_what_they_should():
    for space, expected in ((NAMED_SRGB, SRGB), (NAMED_ADOBE_RGB, ADOBE_RGB)):
        image = IMAGE.copy()
        image.info["icc_profile"] = space.profile()
        assert mean_error(read_photo(image), reference(PIXELS, expected)) < 0.5


def test_transparency_is_kept_apart():
    alpha = fill.smooth_u8("images/alpha", 40, 60)[..., 0]
    image = IMAGE.copy()
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    expected = share * reference(PIXELS, PROPHOTO) + (1 - share) * 255
    for encoding in ("PNG", "TIFF"):
        content = file_of(image, encoding, icc_profile=matrix_profile(PROPHOTO))
        assert mean_error(read_photo(content), expected) < 0.6


def test_palette():
    image = IMAGE.quantize(64)
    expected = reference(np.asarray(image.convert("RGB")), DISPLAY_P3)
    assert mean_error(read_photo(file_of(image, icc_profile=matrix_profile(DISPLAY_P3))), expected) < 0.5


@pytest.mark.parametrize("gamma", [1.0, 1.8])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB"])
def test_grey_profile(mode, gamma):
    grey = PIXELS[..., 0]
    expected = profiles.srgb_values((grey / 255) ** (round(gamma * 256) / 256))
    found = read_photo(file_of(Image.fromarray(grey).convert(mode), icc_profile=grey_profile(gamma)))
    assert np.abs(found - expected[..., None]).max() <= 1
    assert (found == found[..., :1]).all()


def test_sixteen_bits_of_grey_keep_their_darks():
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    expected = profiles.srgb_values(values / 65535)
    for encoding in ("PNG", "TIFF"):
        found = read_photo(file_of(Image.fromarray(values), encoding, icc_profile=grey_profile(1.0)))
        assert np.abs(found[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_photo_without_colour_gets_none(mode, space):
    grey = Image.fromarray(PIXELS[..., 1])
    found = read_photo(file_of(grey.convert(mode), icc_profile=matrix_profile(SPACES[space])))
    assert (found == found[..., :1]).all()
    assert mean_error(found, reference(np.asarray(grey.convert("RGB")), SPACES[space])) < 0.5


def inks(lightness):
    """Paper white, every ink to the same dark grey of some lightness."""
    return [(100 if not corner else lightness, 0, 0) for corner in range(16)]


@pytest.mark.parametrize("encoding", ["JPEG", "TIFF"])
def test_inks_are_perceptual_where_the_profile_has_that(encoding):
    black = Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    grey = Image.new("CMYK", (16, 16), (0, 0, 0, 102))

    def level(image, **tables):
        return read_photo(file_of(image, encoding, icc_profile=table_profile(b"CMYK", **tables)))[8, 8].astype(int)

    both = {"A2B0": inks(0), "A2B1": inks(50)}
    assert np.abs(level(black, **both)).max() <= 2
    np.testing.assert_allclose(level(grey, **both), level(grey, A2B0=inks(0)), atol=1)
    assert np.abs(level(grey, A2B1=inks(50)) - level(grey, **both)).max() > 5


@pytest.mark.parametrize("table", ["A2B0", "A2B1"])
def test_black_stays_black(table):
    """A scanner whose black is a grey of lightness 30 (level 71)."""
    scanner = table_profile(b"RGB ", **{table: [(30, 0, 0)] * 7 + [(100, 0, 0)]})
    found = read_photo(file_of(Image.new("RGB", (4, 4), (0, 0, 1)), icc_profile=scanner))
    assert found.max() <= 2


def test_inks_without_a_profile_are_as_before():
    ink = IMAGE.convert("CMYK")
    np.testing.assert_array_equal(read_photo(file_of(ink, "TIFF")), np.asarray(ink.convert("RGB")))


PLAIN, PLAIN_JPEG = file_of(IMAGE), file_of(IMAGE, "JPEG")
FRAGMENTS = file_of(IMAGE, "JPEG", icc_profile=matrix_profile(DISPLAY_P3))
DAMAGED = {
    "noise": (file_of(IMAGE, icc_profile=b"this is no profile" * 20), PLAIN),
    "cut": (file_of(IMAGE, icc_profile=matrix_profile(DISPLAY_P3)[:200]), PLAIN),
    "no curves": (file_of(IMAGE, icc_profile=matrix_profile(DISPLAY_P3).replace(b"rTRC", b"xxxx")), PLAIN),
    "fragments": (FRAGMENTS.replace(b"ICC_PROFILE\0\x01\x01", b"ICC_PROFILE\0\x01\x02"), PLAIN_JPEG),
    "zlib": (with_chunks(PLAIN, chunk(b"iCCP", b"name\0\0" + b"\xff" * 20)), PLAIN),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_profile_is_ignored_with_a_note(name):
    content, without = DAMAGED[name]
    picture = read_picture(content)
    assert picture.note == "The colour profile of the photo is damaged: it was ignored, colours may be off."
    np.testing.assert_array_equal(picture.pixels, read_photo(without))


@pytest.mark.parametrize(
    ("image", "profile", "message"),
    [
        (IMAGE, table_profile(b"CMYK", A2B0=inks(0)), "is for CMYK, the photo is RGB"),
        (IMAGE, grey_profile(1.8), "is for grey, the photo is RGB"),
        (IMAGE.convert("L"), table_profile(b"CMYK", A2B0=inks(0)), "is for CMYK, the photo is grey"),
    ],
)
def test_profile_of_other_pixels_is_ignored_with_a_note(image, profile, message):
    picture = read_picture(file_of(image, icc_profile=profile))
    assert message in picture.note
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))


def gamma_chunk(gamma):
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100000)))


def corners_chunk(space):
    corners = (*space.white, *space.red, *space.green, *space.blue)
    return chunk(b"cHRM", struct.pack(">8I", *(round(number * 100000) for number in corners)))


SAYS_SRGB = chunk(b"sRGB", b"\0")


def profile_chunk(space):
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(matrix_profile(space)))


def test_png_in_numbers():
    space = profiles.Space(DISPLAY_P3.red, DISPLAY_P3.green, DISPLAY_P3.blue, gamma=1.8)
    content = with_chunks(PLAIN, gamma_chunk(1 / 1.8), corners_chunk(space))
    assert mean_error(read_photo(content), reference(PIXELS, space)) < 0.6
    assert mean_error(read_photo(with_chunks(PLAIN, corners_chunk(DISPLAY_P3))), reference(PIXELS, DISPLAY_P3)) < 0.6
    light = profiles.Space(SRGB.red, SRGB.green, SRGB.blue, gamma=1.0)
    assert mean_error(read_photo(with_chunks(PLAIN, gamma_chunk(1.0))), reference(PIXELS, light)) < 0.6


@pytest.mark.parametrize(
    "chunks",
    [
        (gamma_chunk(1 / 2.2),),
        (gamma_chunk(1 / 2.2), corners_chunk(SRGB)),
        (SAYS_SRGB, gamma_chunk(1.0)),
        (gamma_chunk(0),),
        (chunk(b"cICP", bytes((1, 13, 0, 1))), profile_chunk(PROPHOTO)),
        (chunk(b"cICP", bytes((2, 2, 0, 1))),),
    ],
)
def test_png_that_says_srgb_is_bit_equal(chunks):
    picture = read_picture(with_chunks(PLAIN, *chunks))
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.note == ""


def test_png_by_code_points_which_go_before_a_profile():
    content = with_chunks(PLAIN, chunk(b"cICP", bytes((12, 13, 0, 1))), profile_chunk(PROPHOTO))
    assert mean_error(read_photo(content), reference(PIXELS, DISPLAY_P3)) < 0.5


def test_high_dynamic_range_is_said():
    assert (
        "(PQ), which is not tone-mapped" in read_picture(with_chunks(PLAIN, chunk(b"cICP", bytes((9, 16, 0, 1))))).note
    )


def test_primaries_that_span_nothing_are_ignored_with_a_note():
    flat = profiles.Space((0.3, 0.3), (0.3, 0.3), (0.3, 0.3))
    picture = read_picture(with_chunks(PLAIN, corners_chunk(flat)))
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert "is damaged: it was ignored" in picture.note


def with_exif_space(space, index):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = space
    exif.get_ifd(0x8769)[0xA005] = {1: index}
    return file_of(IMAGE, "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize(
    ("space", "index", "adobe"), [(0xFFFF, "R03", True), (2, "", True), (1, "R98", False), (1, "R03", False)]
)
def test_exif_names_adobe_rgb(space, index, adobe):
    stored = read_photo(file_of(IMAGE, "JPEG", quality=95))
    found = read_photo(with_exif_space(space, index))
    assert mean_error(found, reference(stored, ADOBE_RGB) if adobe else stored) < 0.5


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_result_says_srgb_and_reads_back_as_it_is(suffix):
    content = encode_image(PIXELS, suffix)
    assert content == encode_image(PIXELS, suffix)
    assert b"sRGB" in content.replace(b"s\0R\0G\0B", b"sRGB")
    plain = Image.fromarray(PIXELS)
    stored = {".png": {}, ".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"quality": 95}}[suffix]
    encoding = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[suffix]
    picture = read_picture(content)
    np.testing.assert_array_equal(picture.pixels, read_photo(file_of(plain, encoding, **stored)))
    assert picture.note == ""
