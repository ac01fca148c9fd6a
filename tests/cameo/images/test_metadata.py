"""When, with what and by whom a photo was taken goes to the result; where it was taken does not."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from cameo.images import encode_image, read_picture
from tests.support import fill
from tests.support.photo_files import file_of

PIXELS = fill.smooth_u8("images/metadata", 24, 32)
IMAGE = Image.fromarray(PIXELS)
PLAIN = {
    Base.Make: "Cameo",
    Base.Model: "Obscura 1",
    Base.DateTime: "2024:05:06 07:08:09",
    Base.Artist: "A. Painter",
    Base.Copyright: "2024 A. Painter",
    Base.ImageDescription: "A portrait",
}
EXPOSURE = {
    Base.DateTimeOriginal: "2024:05:06 07:08:09",
    Base.OffsetTimeOriginal: "+02:00",
    Base.ExposureTime: 0.004,
    Base.FNumber: 1.8,
    Base.ISOSpeedRatings: 400,
    Base.FocalLength: 85.0,
    Base.LensModel: "Portrait 85",
}
SECRET = b"secret"


def exif(orientation=6):
    tags = Image.Exif()
    tags.update(PLAIN)
    tags[Base.Orientation] = orientation
    exposure = tags.get_ifd(IFD.Exif)
    exposure.update(EXPOSURE)
    exposure[Base.MakerNote] = SECRET
    exposure[Base.BodySerialNumber] = SECRET.decode()
    exposure[Base.UserComment] = SECRET
    exposure[Base.ColorSpace] = 0xFFFF
    exposure[Base.ExifImageWidth] = 32
    tags.get_ifd(IFD.GPSInfo)[GPS.GPSLatitudeRef] = "N"
    tags.get_ifd(IFD.GPSInfo)[GPS.GPSLatitude] = (48.0, 12.0, 30.0)
    return tags


def with_thumbnail(tags):
    """The EXIF bytes with a second directory, of a thumbnail."""
    content = bytearray(tags.tobytes())
    start = 6
    order = "little" if content[start : start + 2] == b"II" else "big"
    first = start + int.from_bytes(content[start + 4 : start + 8], order)
    entries = int.from_bytes(content[first : first + 2], order)
    place = len(content) - start
    content[first + 2 + 12 * entries :][:4] = place.to_bytes(4, order)
    content[first + 2 + 12 * entries : first + 6 + 12 * entries] = place.to_bytes(4, order)
    values = [(0x0201, 4, 1, place + 2 + 24 + 4), (0x0202, 4, 1, len(SECRET))]
    directory = len(values).to_bytes(2, order)
    for tag, kind, count, value in values:
        directory += tag.to_bytes(2, order) + kind.to_bytes(2, order)
        directory += count.to_bytes(4, order) + value.to_bytes(4, order)
    return bytes(content) + directory + bytes(4) + SECRET


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_date_camera_and_copyright_go_to_the_result(source, suffix):
    stored = Image.Exif()
    stored.load(with_thumbnail(exif()))
    picture = read_picture(file_of(IMAGE, source, exif=stored if source == "TIFF" else with_thumbnail(exif())))
    content = encode_image(picture.pixels, suffix, picture.exif)
    tags = Image.open(io.BytesIO(content)).getexif()
    assert {tag: tags.get(tag) for tag in PLAIN} == PLAIN
    found = tags.get_ifd(IFD.Exif)
    assert {tag: found.get(tag) for tag in EXPOSURE} == pytest.approx(EXPOSURE)
    assert tags[Base.Orientation] == 1
    assert found[Base.ColorSpace] == 1
    assert not tags.get_ifd(IFD.GPSInfo)
    assert not tags.get_ifd(IFD.IFD1)
    assert SECRET not in content
    assert set(found) == {*EXPOSURE, Base.ColorSpace}
    np.testing.assert_array_equal(read_picture(content).pixels.shape, picture.pixels.shape)
    assert read_picture(content).exif == picture.exif


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_letters_beyond_ascii_stay_the_same_bytes(encoding):
    tags = exif()
    tags[Base.Copyright] = "© Pïntér".encode(encoding)
    for suffix in (".png", ".jpg", ".webp"):
        assert "© Pïntér".encode(encoding) + b"\0" in encode_image(
            PIXELS, suffix, read_picture(file_of(IMAGE, "JPEG", exif=tags)).exif
        )


def test_without_metadata_nothing_is_written():
    for suffix in (".png", ".jpg", ".webp"):
        assert not Image.open(io.BytesIO(encode_image(PIXELS, suffix))).getexif()
    assert read_picture(file_of(IMAGE, "JPEG")).exif == b""
    assert read_picture(PIXELS).exif == b""


def test_exif_behind_the_pixels_of_a_png():
    content = file_of(IMAGE, exif=exif())
    at = content.index(b"eXIf") - 4
    size = int.from_bytes(content[at : at + 4], "big") + 12
    moved = content[:at] + content[at + size : -12] + content[at : at + size] + content[-12:]
    picture = read_picture(moved)
    assert picture.pixels.shape == (32, 24, 3)
    assert b"A. Painter" in picture.exif


def test_long_text_is_left_out_and_the_rest_kept():
    tags = exif()
    tags[Base.ImageDescription] = "x" * 20_000
    picture = read_picture(file_of(IMAGE, "JPEG", exif=tags))
    kept = Image.Exif()
    kept.load(picture.exif)
    assert Base.ImageDescription not in kept
    assert kept[Base.Artist] == "A. Painter"
    assert encode_image(picture.pixels, ".jpg", picture.exif)


def damaged():
    content = exif(orientation=1).tobytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(content)
        for at in generator.integers(6, len(content), 4):
            broken[at] = generator.integers(256)
        yield bytes(broken)
    yield from (content[:size] for size in range(6, len(content), 17))


def test_damaged_exif_breaks_nothing():
    kept = 0
    for tags in damaged():
        picture = read_picture(file_of(IMAGE, "WEBP", exif=tags))
        assert sorted(picture.pixels.shape) == [3, 24, 32]
        for suffix in (".png", ".jpg", ".webp"):
            content = encode_image(picture.pixels, suffix, picture.exif)
            assert read_picture(content).pixels.shape == picture.pixels.shape
        kept += bool(picture.exif)
    assert kept > 50, "what is whole is kept"


def test_exif_that_cannot_be_read_is_said():
    picture = read_picture(file_of(IMAGE, "WEBP", exif=b"Exif\0\0this is none"))
    assert picture.note == "The EXIF data of the photo is damaged: it was ignored."
    assert picture.exif == b""
