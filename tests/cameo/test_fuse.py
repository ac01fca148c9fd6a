"""`cameo fuse`: one face into one or several templates, with any bundle that takes the two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cameo.command_line import command, command_names, fuse
from cameo.commands import main
from cameo.images import read_photo
from cameo.testing import fake_bundle, image_session
from tests.support.toy_flow import duet


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name, value in {"a.png": 200, "b.jpg": 100, "face.png": 40}.items():
        Image.fromarray(np.full((8, 6, 3), value, np.uint8)).save(name)
    with duet(monkeypatch, tmp_path) as bundle:
        yield bundle


def test_a_face_goes_into_a_template(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuse", "a.png", "face.png", "-o", "out.png", "--bundle", str(bundle), "--alpha", "0.5"]) == 0
    assert set(read_photo("out.png").flat) == {120}
    assert "a.png + face.png -> out.png: no faces" in capsys.readouterr().out
    assert main(["verify", "out.png"]) == 0


def test_a_face_goes_into_several_templates(bundle: Path) -> None:
    assert main(["fuse", "a.png", "b.jpg", "face.png", "-o", "out", "--bundle", str(bundle)]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png"]
    assert {int(read_photo(path).mean()) for path in Path("out").iterdir()} == {40}


def test_the_usual_bundle_is_where_it_is_built(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuse", "a.png", "face.png", "-o", "out.png"]) == 1
    assert "no bundle is named, and there is none in build/face-fusion" in capsys.readouterr().err
    assert Path("build/face-fusion") == fuse.BUNDLE
    monkeypatch.setattr(fuse, "BUNDLE", bundle)
    assert main(["fuse", "a.png", "face.png", "-o", "out.png"]) == 0


def test_a_bundle_is_no_photo(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuse", str(bundle), "a.png", "face.png", "-o", "out.png"]) == 2
    assert (
        f"{bundle} is a bundle, expected a photo or a folder of photos: name it by --bundle" in capsys.readouterr().err
    )


def test_as_json_all_photos_are_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuse", "a.png", "face.png", "-o", "out.png", "--bundle", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["with"] == {"face": "face.png"}


def test_a_bundle_that_takes_other_photos_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_bundle(tmp_path / "other", "gpen", {"gpen-bfr-64": image_session(lambda image: image)}):
        assert main(["fuse", "a.png", "face.png", "-o", "out.png", "--bundle", "other"]) == 2
    assert "other is of gpen, which takes photo, expected one that takes template and face" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("photos", "out", "said"),
    [
        (("a.png", "face.png"), "face.png", "would overwrite the photo face.png"),
        (("a.png", "b.jpg", "face.png"), "out.png", "names one picture for several photos"),
        (("a.png", "none.png"), "out.png", "none.png does not exist"),
    ],
)
def test_what_is_wrong_shows_before_a_model_is_loaded(
    bundle: Path, photos: tuple[str, ...], out: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuse", *photos, "-o", out, "--bundle", str(bundle)]) == 1
    printed = capsys.readouterr()
    assert said in printed.err
    assert not printed.out, "a loaded model says which engines it has"


def test_one_photo_is_not_enough(bundle: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fuse", "a.png", "-o", "out.png"])


def test_flags_are_those_of_flows_that_take_the_two(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fuse", "--help"])
    said = capsys.readouterr().out
    assert "--alpha" in said
    assert "--sr" not in said


@pytest.mark.parametrize("name", command_names())
def test_every_command_is_a_file_with_a_line_of_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert f"\n    {name}" in capsys.readouterr().out
    assert command(name).HELP
