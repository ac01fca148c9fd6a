"""`cameo run`: where the results go."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from cameo.command_line import _model
from cameo.commands import main
from cameo.flows import Outcome, gpen
from cameo.images import Picture, read_photo


def test_an_unknown_argument_is_answered_with_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", "a", "--nonsense", "--port", "0"])
    said = capsys.readouterr().err
    assert (left.value.code, said.startswith("usage: cameo serve ")) == (2, True)
    assert "cameo serve: error: unrecognized arguments: --nonsense" in said


class Model:
    """A loaded model that inverts photos."""

    def describe(self) -> str:
        return "an inverter"

    takes = gpen.TAKES
    bundle = SimpleNamespace(manifest=SimpleNamespace(model="inverter"))
    engines: ClassVar[dict[str, Any]] = {}
    notes = ("It inverts.",)

    def run(self, photos: dict[str, Picture], progress: Callable[[int, int], None]) -> Outcome:
        progress(1, 2)
        return Outcome(255 - photos["photo"].pixels, note="Inverted.")

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *details: object) -> None:
        pass


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(_model, "load", lambda parsed, consent, allow_truncated: Model())
    monkeypatch.setattr(_model, "flow_of", lambda bundle: gpen)
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "b.png", "a.jpg", "other/a.png"]
    (tmp_path / "other").mkdir()
    for name in names:
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / name)
    return names


def run(*photos: str, out: str) -> int:
    return main(["run", "bundle", *photos, "-o", out])


def written(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.mark.parametrize("out", ["new/", "new/and/deep/", "new.d/"])
@pytest.mark.parametrize("several", [False, True])
def test_a_folder_that_is_not_there_is_made(out: str, several: bool) -> None:
    assert run("a.png", *(["b.png"] if several else []), out=out) == 0
    assert sorted(path.name for path in Path(out).iterdir()) == ["a.png", "b.png"][: 1 + several]
    assert read_photo(Path(out) / "a.png").min() == 255


@pytest.mark.parametrize("command", ["run", "batch"])
def test_nothing_is_no_place(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([command, "bundle", "a.png", "-o", ""])
    assert "argument -o/--out: it is empty, expected a file or a folder" in capsys.readouterr().err
    assert written(".") == ["a.jpg", "a.png", "b.png", "other/a.png"]


def test_several_photos_need_no_slash() -> None:
    assert run("a.png", "b.png", out="new") == 0
    assert Path("new/b.png").is_file()


def test_one_photo_without_a_slash_is_one_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.png", out="c.png") == 0
    assert Path("c.png").is_file()
    assert run("a.png", out="new") == 1
    assert "has no suffix" in capsys.readouterr().err
    assert not Path("new").exists()


def test_two_photos_of_one_name_are_both_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("b.png", "a.png", "other/a.png", out="new/") == 1
    assert "a.png and other/a.png would both be written to new/a.png.png" in capsys.readouterr().err
    assert not Path("new").exists()


def test_photos_that_differ_in_their_endings_have_results_of_their_own() -> None:
    assert run("b.png", "a.png", "a.jpg", "a.png", out="new/") == 0
    assert written("new") == ["a.jpg.png", "a.png.png", "b.png"]


@pytest.mark.parametrize("out", ["a.png/", "a.png/deep/", "a.png/deep/c.png"])
def test_a_folder_that_cannot_be_made_is_one_sentence(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("b.png", out=out) == 1
    assert "a.png is a file, expected a folder for results: choose another" in capsys.readouterr().err


def test_a_folder_goes_in_with_all_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(".", out="new") == 0
    assert written("new") == ["a.jpg.png", "a.png.png", "b.png", "other/a.png"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("1/4 a.jpg -> new/a.jpg.png: no faces, ")
    assert lines[-1].startswith("4/4 other/a.png -> new/other/a.png: ")
    assert run(".", out="new.jpg") == 1
    assert "-o new.jpg names one picture for several photos: name a folder, or new.jpg/" in capsys.readouterr().err


def test_the_folder_of_one_picture_is_made_too() -> None:
    assert run("a.png", out="new/and/deep/c.png") == 0
    assert written("new") == ["and/deep/c.png"]


def test_format_and_suffix_name_the_results_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "bundle", "a.png", "b.png", "-o", "new", "--format", "webp", "--suffix=-x"]) == 0
    assert written("new") == ["a-x.webp", "b-x.webp"]
    for flag, value in (("--format", "jpg"), ("--suffix", "x")):
        assert main(["run", "bundle", "a.png", "-o", "c.png", flag, value]) == 2
        assert f"-o c.png names the result, {flag} is for folders" in capsys.readouterr().err
    assert main(["run", "bundle", "a.png", "-o", "new/", "--format", "gif"]) == 2
    assert "--format is 'gif', expected one of png" in capsys.readouterr().err


def test_what_is_there_is_skipped_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("new").mkdir()
    Path("new/a.png").write_bytes(b"mine")
    assert main(["run", "bundle", "a.png", "b.png", "-o", "new", "--skip-existing"]) == 0
    assert Path("new/a.png").read_bytes() == b"mine"
    assert "1 of 2 are there already" in capsys.readouterr().out
    monkeypatch.delattr(_model, "load")
    assert main(["run", "bundle", "a.png", "b.png", "-o", "new", "--skip-existing"]) == 0


def test_where_all_but_those_that_failed_are_there_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.png").write_bytes(b"none")
    assert main(["run", "bundle", "a.png", "-o", "new/"]) == 0
    assert main(["run", "bundle", "a.png", "bad.png", "-o", "new", "--skip-existing"]) == 1
    said = "1 of 2 pictures could not be made, see above; the others are there already\n"
    assert capsys.readouterr().err.endswith(said)


def test_quiet_prints_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.png").write_bytes(b"none")
    assert main(["run", "bundle", "a.png", "bad.png", "-o", "new", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[0].startswith("error: bad.png is not an image")


def test_side_by_side_has_the_photo_on_the_left() -> None:
    assert main(["run", "bundle", "a.png", "-o", "c.png", "--side-by-side"]) == 0
    picture = read_photo("c.png")
    assert picture.shape == (4, 12, 3)
    assert (picture[:, :6].max(), picture[:, 6:].min()) == (0, 255)


def test_json_says_what_became_of_each_photo(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.png").write_bytes(b"none")
    assert main(["run", "bundle", "a.png", "bad.png", "-o", "new", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["notes"], said["all"], said["done"], said["failed"]) == (
        "inverter",
        ["It inverts."],
        2,
        1,
        1,
    )
    good, bad = said["photos"]
    assert (good["photo"], good["status"], good["result"], good["note"]) == ("a.png", "done", "new/a.png", "Inverted.")
    assert (good["faces"], good["boxes"]) == (0, [])
    assert set(good["times_s"]) == {"read", "write"}, "a model says more of itself"
    assert (bad["status"], bad["result"]) == ("failed", "")
    assert "bad.png is not an image" in bad["error"]
    assert main(["run", "bundle", "bad.png", "-o", "c.png", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["photos"][0]["status"] == "failed"


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> io.BytesIO:
    """Standard input brings `content`; what goes to standard output."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    sent = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sent))
    return sent


def test_photos_come_from_standard_input_and_go_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = pipe(monkeypatch, Path("a.png").read_bytes())
    assert main(["run", "bundle", "-", "-o", "-", "--format", "webp"]) == 0
    assert sent.getvalue()[8:12] == b"WEBP"
    assert read_photo(sent.getvalue()).min() > 250
    assert "- -> -: no faces" in capsys.readouterr().err
    pipe(monkeypatch, Path("a.png").read_bytes())
    assert run("-", "b.png", out="new/") == 0
    assert written("new") == ["b.png", "stdin.png"]
    pipe(monkeypatch, b"")
    assert run("-", out="c.png") == 1
    said = "standard input is empty (0 bytes), expected a photo: see whether the command before the pipe failed, or"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-", "-", "-o", "new"], 2, "- stands 2 times for a photo, standard input has one"),
        (["a.png", "b.png", "-o", "-"], 1, "-o - is one picture for several photos: name a folder"),
        ([".", "-o", "-"], 1, "-o - is one picture for several photos: name a folder"),
        (["a.png", "-o", "-", "--json"], 2, "-o - sends the picture to standard output, --json is for files"),
        (["a.png", "-o", "-", "--skip-existing"], 2, "--skip-existing is for files"),
        (["a.png", "-o", "-", "--suffix=-x"], 2, "--suffix is for files"),
        (["a.png", "-o", "-", "--format", "gif"], 2, "--format is 'gif'"),
    ],
)
def test_what_standard_input_and_output_cannot_be_is_said_first(
    arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(_model, "load")
    pipe(monkeypatch, b"")
    assert main(["run", "bundle", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_terminal_is_no_photo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pipe(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert run("-", out="c.png") == 1
    assert "- is standard input, which is a terminal, expected a photo" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("a.png", out="-") == 1
    assert "-o - is standard output, which is a terminal" in capsys.readouterr().err


def test_a_photo_that_is_not_there_is_found_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(_model, "load")
    assert run("a.png", "none.png", out="new/") == 1
    assert "none.png does not exist, expected a photo" in capsys.readouterr().err
    assert not Path("new").exists()


def test_no_photo_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.png", "b.png", out=".") == 1
    assert "would overwrite the photo a.png" in capsys.readouterr().err
