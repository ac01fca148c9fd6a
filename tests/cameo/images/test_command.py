"""`cameo run`: what a photo's file says reaches the user and the result."""

import io
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from cameo import commands
from cameo.command_line import _model
from cameo.faces.restoring import ALIGNED, FaceRestorer
from cameo.flows import dctnet, gpen, gpen_face
from cameo.images import Picture, read_photo
from cameo.testing import image_session
from tests.support import fill
from tests.support.doors import Door, Finds, opened
from tests.support.photo_files import file_of
from tests.support.profiles import PROPHOTO, matrix_profile, reference

PIXELS = fill.smooth_u8("images/command", 64, 64)
SAME = image_session(lambda image: image)
NOTE = "The photo was odd."
NO_FACE = "No face was found, so none was restored."
RESTORING = gpen.GpenFlow(FaceRestorer(SAME, 64), Finds())
FLOWS = {
    "dctnet": (
        Door(dctnet, dctnet.DctNetFlow(dctnet.Networks(SAME, SAME), Finds())),
        "No face was found: all of the photo was drawn as background.",
    ),
    "gpen": (Door(gpen, RESTORING), NO_FACE),
    "gpen aligned": (Door(gpen, RESTORING, gpen.Request(aligned=True)), ALIGNED),
    "gpen-face": (opened(gpen_face, {"gpen-inpainting-64": SAME}), ALIGNED),
}


@pytest.mark.parametrize("name", FLOWS)
def test_note_of_the_photo_is_in_the_outcome(name):
    flow, own = FLOWS[name]
    assert flow.run(Picture(PIXELS, NOTE)).note == " ".join(filter(None, (NOTE, own)))
    assert flow.run(PIXELS).note == own


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`cameo run` of a model that changes nothing, on the bytes of a photo; gives the exit code and the result."""
    door = FLOWS["gpen"][0]
    model = SimpleNamespace(
        run=lambda photos, progress: door.run(photos["photo"], progress),
        describe=lambda: "a model",
        bundle=SimpleNamespace(manifest=SimpleNamespace(model="model")),
        engines={},
        notes=(),
    )
    monkeypatch.setattr(_model, "load", lambda parsed, consent, allow_truncated: nullcontext(model))
    monkeypatch.setattr(_model, "flow_of", lambda bundle: gpen)

    def run(content, *options, suffix=".png"):
        photo, result = tmp_path / "photo.jpg", tmp_path / f"result{suffix}"
        photo.write_bytes(content)
        result.unlink(missing_ok=True)
        return commands.main(["run", "bundle", str(photo), "-o", str(result), *options]), result

    return run


def exif():
    tags = Image.Exif()
    tags[Base.Copyright] = "A. Painter"
    tags[Base.Orientation] = 3
    return tags


def written(path):
    return Image.open(io.BytesIO(path.read_bytes())).getexif()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_metadata_goes_along_unless_told_otherwise(run, suffix):
    content = file_of(Image.fromarray(PIXELS), "JPEG", exif=exif())
    code, result = run(content, suffix=suffix)
    assert code == 0
    assert written(result)[Base.Copyright] == "A. Painter"
    assert written(result)[Base.Orientation] == 1
    code, result = run(content, "--no-metadata", suffix=suffix)
    assert code == 0
    assert not written(result)


def test_result_is_in_srgb(run):
    code, result = run(file_of(Image.fromarray(PIXELS), icc_profile=matrix_profile(PROPHOTO)))
    assert code == 0
    assert np.abs(read_photo(result) - reference(PIXELS, PROPHOTO)).mean() < 0.5


def test_notes_are_printed(run, capsys):
    image = Image.fromarray(PIXELS)
    code, _ = run(file_of(image, save_all=True, append_images=[image.rotate(90)], icc_profile=b"noise" * 40))
    assert code == 0
    printed = capsys.readouterr().out
    assert "Only the first of 2 frames was read. The colour profile of the photo is damaged" in printed
    assert NO_FACE in printed


def test_truncated_photo_only_when_allowed(run, capsys):
    content = file_of(Image.fromarray(PIXELS), "JPEG")
    half = content[: len(content) * 3 // 4]
    code, result = run(half)
    assert code == 1
    assert not result.exists()
    said = capsys.readouterr().err
    assert "photo.jpg is damaged" in said
    assert said.endswith("or take what there is by --allow-truncated.\n")
    code, result = run(half, "--allow-truncated")
    assert code == 0
    assert "The file is truncated: the missing part of the photo is blank." in capsys.readouterr().out
    assert result.exists()
    assert run(content[:-2])[0] == 0
