"""Which files are opened: the promised formats, and no other decoder."""

import io
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from cameo.errors import PhotoError
from cameo.images import Encoding, encode_image, megapixels, read_photo, read_picture
from cameo.images.files import READABLE
from tests.support import fill
from tests.support.photo_files import file_of
from tests.support.profiles import DISPLAY_P3, matrix_profile, reference

ROOT = Path(__file__).parents[3]
PIXELS = fill.smooth_u8("images/files", 40, 64)
IMAGE = Image.fromarray(PIXELS)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A `gs` that leaves a trace."""
    trace = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch '{trace}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return trace


def test_eps_starts_no_ghostscript(tmp_path, ghostscript):
    path = tmp_path / "photo.jpg"
    path.write_bytes(EPS)
    for source in (EPS, path, b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + bytes(22) + EPS):
        with pytest.raises(PhotoError, match="is not an image that can be read, expected JPEG"):
            read_photo(source)
    image = Image.open(io.BytesIO(EPS))
    with pytest.raises(PhotoError, match=r"is not an image that can be read.*or call its load\(\) first"):
        read_photo(image)
    assert not ghostscript.exists()
    with pytest.raises(subprocess.CalledProcessError):  # the trap works
        image.load()
    assert ghostscript.exists()


OTHERS = ["PPM", "TGA", "PCX", "SGI", "ICO", "ICNS", "DDS", "JPEG2000", "MSP", "XBM", "BLP", "QOI"]


@pytest.mark.parametrize("encoding", OTHERS)
def test_other_formats_are_refused(encoding):
    image = IMAGE.convert({"MSP": "1", "XBM": "1", "BLP": "P"}.get(encoding, "RGB"))
    try:
        content = file_of(image, encoding)
    except (KeyError, OSError) as error:
        pytest.skip(f"Pillow cannot write {encoding} here ({error})")
    with pytest.raises(PhotoError, match="expected JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC"):
        read_photo(content)


@pytest.mark.parametrize("encoding", READABLE)
def test_promised_formats_are_read(encoding):
    assert read_photo(file_of(IMAGE, encoding)).shape == PIXELS.shape


def test_only_one_place_opens_pictures_and_names_the_formats():
    """In product code; the one `imdecode` decodes what was encoded the line before."""
    calls = re.compile(r"Image\.open\((?![^)]*formats=)|\bimread\(|\bimdecode\(|\bVideoCapture\(|\bimageio\b")
    folders = ("cameo", "demo", "engines", "exporters", "optimize", "pipeline", "validate")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in files if calls.search(path.read_text())}
    assert len(files) > 100
    assert found == {"demo/poor_photo.py"}


HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_without_the_extra_names_format_and_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "phone.heic"
    path.write_bytes(HEIC_HEAD + bytes(100))
    with pytest.raises(PhotoError, match=r"phone\.heic is HEIC, which is read only with the extra heic \(pip install"):
        read_photo(path)


def test_avif_without_the_extra_names_format_and_extra(monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(PhotoError, match=r"is AVIF, which is read only with the extra heic"):
        read_photo(file_of(IMAGE, "AVIF"))


def heic_of(image, **options):
    """A HEIC file; the encoder is asked for directly, so that Pillow stays as it is."""
    plugin = pytest.importorskip("pillow_heif.as_plugin")
    buffer = io.BytesIO()
    image = image.copy()
    image.encoderinfo = options
    plugin._save_heif(image, buffer, "")
    return buffer.getvalue()


def test_heic_is_read_upright_and_in_its_colours():
    known = set(Image.OPEN)  # other libraries may have registered what they like
    orientation = Image.Exif()
    orientation[0x0112] = 6
    content = heic_of(IMAGE, quality=-1, chroma=444, matrix_coefficients=0)
    np.testing.assert_array_equal(read_photo(content), PIXELS)
    turned = IMAGE.copy()
    turned.info["exif"] = orientation.tobytes()
    turned.info["icc_profile"] = matrix_profile(DISPLAY_P3)
    picture = read_picture(heic_of(turned, quality=-1, chroma=444, matrix_coefficients=0))
    expected = reference(np.rot90(PIXELS, -1), DISPLAY_P3)
    assert np.abs(picture.pixels - expected).mean() < 0.6
    assert picture.note == ""
    assert set(Image.OPEN) == known, "Pillow of the whole process is left as it was"


def test_damaged_heic_is_refused():
    content = heic_of(IMAGE)
    for damaged in (content[: len(content) // 2], HEIC_HEAD + bytes(100)):
        with pytest.raises(PhotoError, match="is damaged"):
            read_photo(damaged)


def test_avif_is_read_upright_and_in_its_colours():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = file_of(IMAGE, "AVIF", quality=95, subsampling="4:4:4", exif=exif, icc_profile=matrix_profile(DISPLAY_P3))
    expected = reference(np.rot90(PIXELS, -1), DISPLAY_P3)
    assert np.abs(read_photo(content) - expected).mean() < 3


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_code_points_of_avif_and_heic_are_followed(kind):
    content = (
        file_of(IMAGE, "AVIF", quality=95, subsampling="4:4:4")
        if kind == "AVIF"
        else heic_of(IMAGE, quality=-1, chroma=444, color_primaries=12, transfer_characteristics=13)
    )
    plain = content
    at = content.index(b"colrnclx") + 8
    plain = content[:at] + bytes((0, 1)) + content[at + 2 :]
    content = content[:at] + bytes((0, 12)) + content[at + 2 :]
    assert np.abs(read_photo(content) - reference(read_photo(plain), DISPLAY_P3)).mean() < 0.6


def test_threads_decode_at_the_same_time(monkeypatch):
    """Each waits for the other inside the decoder."""
    meeting = threading.Barrier(2, timeout=20)
    load = ImageFile.ImageFile.load

    def slow(image):
        if image.tile:  # not yet decoded
            meeting.wait()
        return load(image)

    contents = [file_of(IMAGE, encoding) for encoding in ("PNG", "BMP")]
    monkeypatch.setattr(ImageFile.ImageFile, "load", slow)
    found = []
    threads = [threading.Thread(target=lambda one=one: found.append(read_photo(one))) for one in contents]
    before = list(warnings.filters)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert warnings.filters == before


def test_megapixels_are_known_from_headers():
    image = np.zeros((300, 500, 3), np.uint8)
    files = [encode_image(image, suffix) for suffix in (".png", ".jpg", ".webp")]
    assert megapixels(files) == pytest.approx(0.45)
    assert megapixels([files[0][:200], b"nothing", b""]) == pytest.approx(0.15)


def test_how_hard_a_png_tries_changes_no_pixel():
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    usual, quick = encode_image(noise, ".png"), encode_image(noise, ".png", how=Encoding(png_level=1))
    assert usual != quick
    np.testing.assert_array_equal(read_photo(quick), noise)
    assert len(encode_image(noise, ".jpg", how=Encoding(quality=20))) < len(encode_image(noise, ".jpg"))
