import errno
import io
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cameo.errors import OutputError, PhotoError
from cameo.images import check_output, encode_image, read_photo, write_image
from tests.support import fill
from tests.support.photo_files import bomb, file_of

UPRIGHT = fill.smooth_u8("images/upright", 20, 30)
# How a viewer turns what is stored, by EXIF orientation (EXIF 2.3, table 4).
TURNS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("encoding", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_photo_is_turned_upright_once(orientation, encoding):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if encoding == "WEBP" else {}
    content = file_of(Image.fromarray(UPRIGHT), encoding, exif=exif, **options)
    np.testing.assert_array_equal(read_photo(content), TURNS[orientation](UPRIGHT))


def test_damaged_exif_does_not_spoil_the_photo():
    content = file_of(Image.fromarray(UPRIGHT), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7fgarbage")
    assert read_photo(content).shape == (20, 30, 3)


def test_path_string_bytes_pil_and_array_agree(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(file_of(Image.fromarray(UPRIGHT)))
    for source in (path, str(path), path.read_bytes(), Image.open(path), UPRIGHT):
        np.testing.assert_array_equal(read_photo(source), UPRIGHT)
    assert read_photo(UPRIGHT) is UPRIGHT


def test_pil_image_of_the_caller_is_left_alone():
    image = Image.fromarray(UPRIGHT)
    image.getexif()[0x0112] = 6
    assert read_photo(image).shape == (30, 20, 3)
    assert image.size == (30, 20)


@pytest.mark.parametrize("mode", ["L", "1", "P", "YCbCr", "HSV"])
def test_modes_become_rgb(mode):
    image = Image.fromarray(UPRIGHT).convert(mode)
    np.testing.assert_array_equal(read_photo(image), np.asarray(image.convert("RGB")))


def test_cmyk_file():
    ink = Image.new("CMYK", (4, 3), (0, 255, 255, 0))
    assert np.abs(read_photo(file_of(ink, "JPEG")).astype(int) - (255, 0, 0)).max() <= 4
    np.testing.assert_array_equal(read_photo(file_of(ink, "TIFF")), np.full((3, 4, 3), (255, 0, 0), np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_composited_on_white(mode):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))
    pixels = read_photo(image.convert(mode))[0, :, 0]
    np.testing.assert_array_equal(pixels, [0, 255, 204])


def test_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    pixels = read_photo(file_of(image, transparency=bytes([0, 255])))
    np.testing.assert_array_equal(pixels[0], [(255, 255, 255), (40, 50, 60)])


def test_sixteen_bits_are_scaled_not_wrapped_or_clipped():
    values = np.array([[0, 128, 257, 32896, 65406, 65535]], np.uint16)
    expected = [0, 0, 1, 128, 254, 255]  # 128 / 257 rounds to 0, 65406 / 257 = 254.498 to 254
    np.testing.assert_array_equal(read_photo(file_of(Image.fromarray(values)))[0, :, 1], expected)
    np.testing.assert_array_equal(read_photo(Image.fromarray(values.astype(np.int32)))[0, :, 1], expected)
    np.testing.assert_array_equal(read_photo(values)[0, :, 1], expected)
    np.testing.assert_array_equal(read_photo(np.dstack([values] * 3))[0, :, 1], expected)


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_array_shapes(channels):
    array = np.full((2, 5, *channels), 255, np.uint8)
    np.testing.assert_array_equal(read_photo(array), np.full((2, 5, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "not an image"),
        (file_of(Image.fromarray(UPRIGHT))[:-200], "is damaged"),
        (file_of(Image.fromarray(UPRIGHT), "JPEG")[:-200], "is damaged"),
        (bomb(20000, 20000), "is too large"),
        (bomb(15000, 10000), "15000x10000.*expected at most 120,000,000"),
        (Image.new("RGB", (0, 7)), "no pixels"),
        (Image.new("F", (2, 2)), "32 bits per channel"),
        (Image.new("I", (2, 2), 70000), "32 bits per channel"),
        (np.zeros((0, 7, 3), np.uint8), "no pixels"),
        (np.zeros((7, 7, 3), np.float32), r"float32 \(7, 7, 3\), expected uint8"),
        (np.zeros((7, 7, 2), np.uint8), "expected uint8"),
        (np.zeros((1, 7, 7, 3), np.uint8), "expected uint8"),
        ("/no/such/photo.jpg", "does not exist"),
        ("a\0b", "cannot be read"),
        (os.sep, "is a folder"),
    ],
)
def test_bad_photos_are_refused_in_one_sentence(source, message):
    with pytest.raises(PhotoError, match=message) as caught:
        read_photo(source)
    assert "\n" not in str(caught.value)


def test_limit_is_checked_before_decoding(monkeypatch):
    image = Image.open(io.BytesIO(file_of(Image.fromarray(UPRIGHT))))
    monkeypatch.setattr(image, "load", lambda: pytest.fail("decoded"))
    with pytest.raises(PhotoError, match=r"30x20, 600 pixels, expected at most 599"):
        read_photo(image, max_pixels=599)
    assert read_photo(UPRIGHT, max_pixels=600).shape == UPRIGHT.shape


def test_truncated_file_names_the_path(tmp_path):
    path = tmp_path / "half.jpg"
    path.write_bytes(file_of(Image.fromarray(UPRIGHT), "JPEG")[:400])
    with pytest.raises(PhotoError, match=r"half\.jpg is damaged"):
        read_photo(path)


def test_warnings_of_pil_do_not_leak(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # PIL warns above, and raises above twice this
    content = file_of(Image.fromarray(UPRIGHT))
    before = list(warnings.filters)
    threads = [threading.Thread(target=read_photo, args=(content,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_photo(content).shape == (20, 30, 3)
    assert warnings.filters == before


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.jpeg", "a.webp"])
def test_written_image_reads_back(tmp_path, name):
    image = fill.smooth_u8("images/large", 200, 300)
    write_image(tmp_path / name, image)
    tolerance = 0 if name.lower().endswith("png") else 12
    assert np.abs(read_photo(tmp_path / name).astype(int) - image).max() <= tolerance
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bytes_are_those_of_the_file(tmp_path):
    write_image(tmp_path / "a.webp", UPRIGHT)
    assert (tmp_path / "a.webp").read_bytes() == encode_image(UPRIGHT, ".webp")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.gif", r"suffix '\.gif', expected \.png"),
        ("a", "no suffix"),
        ("file/b/a.png", "file is a file, expected a fol"),
    ],
)
def test_output_is_checked_before_the_work(tmp_path, name, message):
    (tmp_path / "file").touch()
    for act in (check_output, lambda path: write_image(path, UPRIGHT)):
        with pytest.raises(OutputError, match=message):
            act(tmp_path / name)


def test_a_missing_folder_is_made_when_it_is_written_to(tmp_path):
    path = tmp_path / "new" / "and" / "deep" / "a.png"
    assert check_output(path) == "PNG"
    assert not (tmp_path / "new").exists()
    write_image(path, UPRIGHT)
    np.testing.assert_array_equal(read_photo(path), UPRIGHT)


def test_folder_is_no_output(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "a.png")


def test_check_output_names_the_format(tmp_path):
    assert [check_output(tmp_path / name) for name in ("a.png", "a.JPG", "a.webp")] == ["PNG", "JPEG", "WEBP"]


def disk_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", [None, b"old result"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, old):
    path = tmp_path / "a.png"
    if old:
        path.write_bytes(old)
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OutputError, match=r"a\.png could not be written \(No space left"):
        write_image(path, UPRIGHT)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([old] if old else [])


def test_room_is_asked_for_where_there_is_none_and_another_folder_otherwise(tmp_path, monkeypatch):
    for code, wanted in (
        (errno.ENOSPC, "free some space or choose another folder"),
        (errno.EACCES, "choose another folder"),
    ):

        def refuse(*_, code=code):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(OutputError) as refused:
            write_image(tmp_path / "a.png", UPRIGHT)
        assert str(refused.value).endswith(f"could not be written ({os.strerror(code)}): {wanted}.")


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.png", UPRIGHT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 17000, 3), np.uint8), "17000x1 pixels do not fit into WEBP"),
        (np.zeros((4, 4, 3), np.float32), "expected uint8"),
        (np.zeros((4, 4), np.uint8), "expected uint8"),
    ],
)
def test_images_that_cannot_be_encoded(image, message):
    with pytest.raises(OutputError, match=message):
        encode_image(image, ".webp")
