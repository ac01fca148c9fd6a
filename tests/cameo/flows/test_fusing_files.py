"""Face fusion as its users call it: files in, files out, at the command line and in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import cameo
from cameo.commands import main
from cameo.errors import PhotoError, PhotoTooLarge, RequestError
from cameo.flows.face_fusion import ENHANCER, GENERATOR, RECOGNISER, SHAPES
from cameo.images import read_photo
from cameo.pixels import Pixels
from cameo.testing import FakeSession, fake_bundle
from tests.cameo.flows.fusion_parts import recogniser, shapes, unchanged

FILE = Path(__file__).parents[3] / "demo" / "photo.jpg"
PHOTO = read_photo(FILE)
DARK = np.asarray(PHOTO * 0.6, np.uint8)
NO_FACE = np.asarray(cv2.GaussianBlur(PHOTO[300:], (0, 0), 9), np.uint8)
Fuse = Callable[..., int]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bundle whose generator darkens, in a folder with photos, where nobody has agreed to anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "settings"))
    photos = {"one": PHOTO, "two": np.hstack([PHOTO, DARK]), "face": DARK, "none": NO_FACE}
    for name, photo in photos.items():
        Image.fromarray(photo).save(f"{name}.png")
    Path("cut.jpg").write_bytes(FILE.read_bytes()[:30_000])
    darkening = FakeSession(lambda image, **_: {"result": image // 2})
    networks = {GENERATOR: darkening, RECOGNISER: recogniser(), SHAPES: shapes(), ENHANCER: unchanged()}
    with fake_bundle(tmp_path / "bundle", "face-fusion", networks):
        yield Path("bundle")


@pytest.fixture
def fuse(bundle: Path) -> Fuse:
    """`cameo fuse`."""
    return lambda *arguments: main(["fuse", *arguments, "--bundle", str(bundle), "--consent"])


def test_a_reference_is_looked_for_before_a_model_is_loaded(fuse: Fuse, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse("one.png", "face.png", "-o", "out.png", "--face-reference", "nowhere.png") == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "error: nowhere.png does not exist, expected a photo: check the path.\n")


@pytest.mark.parametrize("option", ["--template-reference", "--face-reference"])
def test_a_reference_is_never_written_over(fuse: Fuse, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = FILE.read_bytes()
    Path("known.jpg").write_bytes(before)
    assert fuse("two.png", "face.png", "-o", "./known.jpg", option, "known.jpg") == 1
    assert "would overwrite the photo known.jpg" in capsys.readouterr().err
    assert Path("known.jpg").read_bytes() == before


def test_a_reference_is_read_as_photos_are(fuse: Fuse, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ("two.png", "face.png", "-o", "out.png", "--template-reference", "cut.jpg")
    assert fuse(*wanted) == 1
    assert "cut.jpg is damaged" in capsys.readouterr().err
    assert not Path("out.png").exists()
    assert fuse(*wanted, "--allow-truncated") == 0
    assert "The photo 'template_reference': The file is truncated" in capsys.readouterr().out


def test_of_several_templates_each_error_says_whose_it_is(fuse: Fuse, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse("one.png", "two.png", "none.png", "cut.jpg", "face.png", "-o", "out/", "--template-face", "2") == 1
    printed = capsys.readouterr()
    errors = printed.err.splitlines()
    assert errors[0].startswith("error: one.png: Face 2 of the photo 'template' was asked for, which has 1 face")
    assert errors[1].startswith("error: none.png: No face was found in the photo 'template'")
    assert errors[2].startswith("error: cut.jpg is damaged")
    assert errors[3] == "error: 3 of 4 pictures could not be made, see above; the others are done"
    assert [path.name for path in Path("out").iterdir()] == ["two.png"]


def test_what_did_not_run_has_no_part_in_the_result(bundle: Path) -> None:
    with cameo.load(bundle, consent=True) as model:
        for without, networks in (
            (False, {GENERATOR, RECOGNISER, SHAPES, ENHANCER}),
            (True, {GENERATOR, RECOGNISER, SHAPES}),
        ):
            made = model.run(["one.png", "face.png"], model.request(no_enhance=without))
            assert {used.name for used in made.provenance.networks} == networks


def test_where_none_could_be_made_that_is_said(fuse: Fuse, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse("one.png", "two.png", "none.png", "-o", "out/") == 1
    assert capsys.readouterr().err.endswith("2 of 2 pictures could not be made, see above\n")
    assert not Path("out").exists()


def test_one_photo_is_one(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(bundle), "one.png", "-o", "out.png", "--consent"]) == 2
    assert "1 photo was named, expected 2: template, face" in capsys.readouterr().err


def test_in_python_photos_go_in_order_or_by_name(bundle: Path) -> None:
    with cameo.load(bundle, consent=True) as model:
        image = np.asarray(model("one.png", DARK, strength=0.7))
        np.testing.assert_array_equal(model({"face": DARK, "template": Image.open("one.png")}, strength=0.7), image)
        assert (image != PHOTO).any()
        for wrong in ((PHOTO,), (PHOTO, DARK, DARK), (), ({"template": PHOTO, "photo": DARK},)):
            with pytest.raises(RequestError, match="takes template and face, got .*: give 2 photos"):
                model(*wrong)


@pytest.mark.parametrize("wrong", [None, 5, object(), {"template": PHOTO}, np.zeros((2, 2), np.float32)])
def test_in_python_what_is_no_photo_is_named(bundle: Path, wrong: object) -> None:
    with (
        cameo.load(bundle, consent=True) as model,
        pytest.raises(PhotoError, match="^The photo 'face' is .*, expected .*: (give|convert)"),
    ):
        model(PHOTO, wrong)  # type: ignore[arg-type]


def test_the_photo_that_is_too_large_is_named(bundle: Path) -> None:
    small = PHOTO[:200, 100:350]
    with cameo.load(bundle, consent=True, max_pixels=60_000) as model:
        for photos in ((small, PHOTO), (PHOTO, small)):
            name = "face" if photos[1] is PHOTO else "template"
            with pytest.raises(PhotoTooLarge, match=f"The photo '{name}' is 512x512"):
                model(*photos)
        with pytest.raises(PhotoTooLarge, match="The photo 'face_reference' is 512x512"):
            model(small, small, face_reference=PHOTO)


def _rotated(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))


def test_what_the_templates_file_says_goes_to_the_result(fuse: Fuse) -> None:
    for name, maker in (("template.jpg", "Template's maker"), ("other.jpg", "Face's maker")):
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = maker, 6
        _rotated(PHOTO).save(name, exif=exif, quality=95)
    assert fuse("template.jpg", "other.jpg", "-o", "out.jpg") == 0
    with Image.open("out.jpg") as image:
        assert image.getexif()[0x010F] == "Template's maker"
        assert image.getexif()[0x0112] == 1
        assert np.abs(np.asarray(image, int)[300:] - PHOTO[300:]).mean() < 5, "upright"


def test_a_grey_template_stays_grey_as_a_file_too(fuse: Fuse) -> None:
    Image.fromarray(PHOTO).convert("L").save("grey.png")
    assert fuse("grey.png", "face.png", "-o", "out.png") == 0
    image = read_photo("out.png").astype(int)
    assert not np.ptp(image, axis=2).any()
    assert (image != read_photo("grey.png")).any()
