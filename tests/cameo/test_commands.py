"""`cameo run`: where the results go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cameo import commands
from cameo.commands import main
from cameo.flows import gpen
from cameo.images import Picture, read_photo


class Model:
    """A loaded model that inverts photos."""

    def describe(self) -> str:
        return "an inverter"

    def run(self, photos: list[Picture], progress: object) -> SimpleNamespace:
        return SimpleNamespace(image=255 - photos[0].pixels, faces=(), note="")

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *details: object) -> None:
        pass


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(commands, "_load", lambda parsed: Model())
    monkeypatch.setattr(commands, "_flow_of", lambda bundle: gpen)
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "b.png", "a.jpg", "other/a.png"]
    (tmp_path / "other").mkdir()
    for name in names:
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / name)
    return names


def run(*photos: str, out: str) -> int:
    return main(["run", "bundle", *photos, "-o", out])


@pytest.mark.parametrize("out", ["new/", "new/and/deep/", "new.d/"])
@pytest.mark.parametrize("several", [False, True])
def test_a_folder_that_is_not_there_is_made(out: str, several: bool) -> None:
    assert run("a.png", *(["b.png"] if several else []), out=out) == 0
    assert sorted(path.name for path in Path(out).iterdir()) == ["a.png", "b.png"][: 1 + several]
    assert read_photo(Path(out) / "a.png").min() == 255


def test_several_photos_need_no_slash() -> None:
    assert run("a.png", "b.png", out="new") == 0
    assert Path("new/b.png").is_file()


def test_one_photo_without_a_slash_is_one_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.png", out="c.png") == 0
    assert Path("c.png").is_file()
    assert run("a.png", out="new") == 1
    assert "has no suffix" in capsys.readouterr().err
    assert not Path("new").exists()


@pytest.mark.parametrize("second", ["a.jpg", "other/a.png", "a.png"])
def test_two_photos_for_one_file_are_both_named(second: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("b.png", "a.png", second, out="new/") == 1
    assert f"a.png and {second} would both be written to new/a.png" in capsys.readouterr().err
    assert not Path("new").exists()


@pytest.mark.parametrize(("out", "said"), [("a.png/", "File exists"), ("a.png/deep/", "Not a directory")])
def test_a_folder_that_cannot_be_made_is_one_sentence(out: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("b.png", out=out) == 1
    assert f"({said}): choose another with -o" in capsys.readouterr().err


def test_no_photo_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.png", "b.png", out=".") == 1
    assert "would overwrite the photo a.png" in capsys.readouterr().err
