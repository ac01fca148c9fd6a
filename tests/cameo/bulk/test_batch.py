"""`cameo batch`: folders in and out, resumed, never half-written, and one bad photo ends nothing else."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cameo.bulk import making, running
from cameo.bulk.journal import NAME, journal
from cameo.bulk.making import varying_of
from cameo.bulk.photos import Naming, jobs_of
from cameo.bulk.results import Result
from cameo.commands import main
from cameo.errors import EngineError, OutputError, PhotoError, RequestError
from cameo.images import read_photo
from cameo.progress import ProgressBar
from cameo.testing import FakeSession, Strain, fake_bundle, image_session

ROOT = Path(__file__).resolve().parents[3]
PHOTOS = ("a.png", "b.jpg", "sub/deep/c.png", "sub/a.png")


def write(path: Path, value: int = 0, size: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(path)


@pytest.fixture
def session() -> FakeSession:
    return image_session(lambda image: 255 - image)


@pytest.fixture
def folder(tmp_path: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a bundle, and photos in `in`; it is the current one."""
    monkeypatch.chdir(tmp_path)
    for value, name in enumerate(PHOTOS):
        write(tmp_path / "in" / name, 10 * value)
    with fake_bundle(tmp_path / "bundle", "gpen", {"gpen-bfr-64": session}):
        yield tmp_path


def run(*more: str, out: str = "out") -> int:
    return main(["batch", "bundle", "in", "-o", out, "--aligned", *more])


def rows(out: str = "out") -> list[dict[str, str]]:
    return list(csv.DictReader(Path(out, "results.csv").read_text().splitlines()))


def count(status: str) -> int:
    return [row["status"] for row in rows()].count(status)


def found(out: str = "out") -> list[str]:
    names = (path.relative_to(out).as_posix() for path in Path(out).rglob("*") if path.is_file())
    return sorted(name for name in names if name not in (NAME, "results.csv", "results.json"))


def test_every_photo_below_the_folder_has_a_result_at_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert found() == ["a.png", "b.png", "sub/a.png", "sub/deep/c.png"]
    assert read_photo(Path("out/sub/deep/c.png"))[0, 0, 0] == 255 - 20
    assert [row["status"] for row in rows()] == ["done"] * 4
    assert json.loads(Path("out/results.json").read_text())["done"] == 4
    said = capsys.readouterr().out
    assert "4 done in " in said
    assert "0 failed, 4 faces; 4 with a note, in results.csv" in said


def test_a_second_run_keeps_what_is_done_and_runs_what_is_not(folder: Path, session: FakeSession) -> None:
    assert run() == 0
    ran = len(session.shapes)
    assert run() == 0
    assert len(session.shapes) == ran
    assert count("kept") == 4
    Path("out/b.png").unlink()
    write(Path("in/new.png"), 7)
    write(Path("in/a.png"), 99)
    assert run() == 0
    assert {row["photo"]: row["status"] for row in rows()} == {
        "a.png": "done",
        "b.jpg": "done",
        "new.png": "done",
        "sub/a.png": "kept",
        "sub/deep/c.png": "kept",
    }
    assert read_photo(Path("out/a.png"))[0, 0, 0] == 255 - 99


def test_a_photo_that_was_only_touched_is_kept(folder: Path) -> None:
    assert run() == 0
    os.utime("in/a.png", (1, 1))
    assert run() == 0
    assert count("kept") == 4


@pytest.mark.parametrize("more", [("--alpha", "0.5"), ("--format", "jpg"), ("--engine", "fake-bundle")])
def test_other_options_are_another_result(folder: Path, more: tuple[str, ...]) -> None:
    assert run() == 0
    assert run(*more) == 0
    assert count("done") == 4


def test_another_mask_is_another_result_and_a_mask_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in/a.png")
    write(tmp_path / "mask.png")
    line = ["batch", "bundle", "in", "--mask", "mask.png", "-o"]
    with fake_bundle(tmp_path / "bundle", "gpen-face", {"gpen-inpainting-64": image_session(lambda image: image)}):
        assert main([*line, "out"]) == 0
        write(tmp_path / "mask.png", 255)
        assert main([*line, "out"]) == 0
        assert count("done") == 1
        write(tmp_path / "in/mask.png")
        assert main([*line, "."]) != 0
    assert "would overwrite the photo mask.png" in capsys.readouterr().err


def test_what_does_not_change_results_does_not_run_them_again(folder: Path) -> None:
    assert run("--threads", "1") == 0
    assert run("--memory", "4GiB") == 0
    assert count("kept") == 4


def test_bad_photos_are_listed_at_the_end_and_the_others_are_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/bad.png").write_bytes(b"no photo")
    Path("in/empty.jpg").touch()
    assert run() == 1
    out = capsys.readouterr().out
    assert "failed: bad.png: in/bad.png is not an image that can be read" in out
    assert "failed: empty.jpg: in/empty.jpg is empty" in out
    assert "4 done in " in out
    assert "2 failed" in out
    assert found() == ["a.png", "b.png", "sub/a.png", "sub/deep/c.png"]
    assert [row["photo"] for row in rows() if row["status"] == "failed"] == ["bad.png", "empty.jpg"]


def test_an_engine_that_fails_on_one_photo_fails_on_that_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(feeds: Any) -> Exception | None:
        return EngineError("cursed") if (feeds["image"] == 13).any() else None

    monkeypatch.chdir(tmp_path)
    for value in (12, 13, 14):
        write(Path(f"in/{value}.png"), value)
    session = image_session(lambda image: image, Strain(fails=fails))
    with fake_bundle(tmp_path / "bundle", "gpen", {"gpen-bfr-64": session}):
        assert run() == 1
    assert found() == ["12.png", "14.png"]


def test_format_and_suffix_name_the_results(folder: Path) -> None:
    assert run("--format", "webp", "--suffix=-young") == 0
    assert found() == ["a-young.webp", "b-young.webp", "sub/a-young.webp", "sub/deep/c-young.webp"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--format", "bmp"), "--format is 'bmp', expected one of png, jpg, jpeg, webp"),
        (("--suffix", "a/b"), "--suffix is 'a/b', expected what can be part of a file's name"),
        (("--tile", "7"), "Option --tile of gpen is 7"),
        (("--memory", "much"), "The amount of memory is 'much'"),
    ],
)
def test_bad_options_are_refused_before_any_work(
    folder: Path, session: FakeSession, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*more) == 2
    assert said in capsys.readouterr().err
    assert session.shapes == []


def test_photos_that_differ_in_their_endings_have_results_of_their_own(folder: Path) -> None:
    write(Path("in/a.jpg"), 50)
    write(Path("in/sub/A.PNG"), 51)
    assert run() == 0
    results = {row["photo"]: row["result"] for row in rows()}
    assert (results["a.jpg"], results["a.png"]) == ("a.jpg.png", "a.png.png")
    assert len(set(results.values())) == len(results)


def test_the_output_folder_may_lie_inside(folder: Path) -> None:
    assert run(out="in/out") == 0
    assert run(out="in/out") == 0
    assert found("in/out") == ["a.png", "b.png", "sub/a.png", "sub/deep/c.png"]


@pytest.mark.parametrize("command", ["run", "batch"])
def test_results_beside_their_photos_are_no_photos_the_next_time(folder: Path, command: str) -> None:
    for _ in range(2):
        assert main([command, "bundle", "in", "-o", "in/", "--aligned", "--suffix=-new", "--quiet"]) == 0
    made = sorted(path.name for path in Path("in").rglob("*-new*"))
    assert made == ["a-new.png", "a-new.png", "b-new.png", "c-new.png"]


def test_nor_are_those_of_another_format_or_suffix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "batch"):
        for more in (["--suffix=-a"], ["--suffix=-b"], ["--suffix=-a", "--format=jpg"], ["--suffix=-a"]):
            assert main([command, "bundle", "in", "-o", "in", "--aligned", *more]) == 0
        assert len(list(Path("in").rglob("[!.]*-*"))) == 12
        assert not list(Path("in").rglob("*-?-?.*"))
    assert "in in, where results go, are left out, such as in/a-a.jpg" in capsys.readouterr().out
    for path in ("a.png", "b.jpg", "sub/deep/c.png", "sub/a.png"):
        Path("in", path).unlink()
    assert main(["run", "bundle", "in", "-o", "in", "--aligned", "--suffix=-c"]) == 1
    assert "in holds no photos but pictures that Cameo made, and results go there" in capsys.readouterr().err


def test_results_beside_their_photos_need_a_name_of_their_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "batch"):
        assert main([command, "bundle", "in", "-o", "in", "--aligned"]) == 1
        said = capsys.readouterr().err
        assert "results would lie among the photos of in, and be taken for photos the next time: choose" in said
    assert len(list(Path("in").rglob("*.*"))) == 4


def test_photos_of_a_folder_that_results_go_to_are_left_out_and_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("batch", "run"):
        out = f"in/{command}"
        write(Path(out, "mine.png"), 200)
        assert main([command, "bundle", "in", "-o", out, "--aligned"]) == 0
        assert f"1 photo in {out}, where results go, is left out, such as {out}/mine.png" in capsys.readouterr().out
        assert main([command, "bundle", "in", "-o", out, "--aligned"]) == 0
        assert f"1 photo in {out}, where results go, is left out" in capsys.readouterr().out
        assert not Path(out, command, "mine.png").exists()
        shutil.rmtree(out)


def test_an_option_that_is_what_it_is_anyway_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    for same in (["--format", "png"], ["--alpha", "1"], ["--size-rule", "original"]):
        assert run(*same) == 0
        assert "4 kept from before" in capsys.readouterr().out
    assert run("--alpha", "0.5") == 0
    assert "kept" not in capsys.readouterr().out


def test_what_is_made_while_it_is_interrupted_counts(
    folder: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "__call__", interrupted)
    assert run() == 130
    made = len(found("out"))
    assert made > 1
    assert f"interrupted with {made} photos of 4 done" in capsys.readouterr().err
    assert [row["status"] for row in rows()] == ["done"] * made


def test_an_interrupted_batch_says_how_far_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(batch: Any, jobs: Any, out: Path, kept: Any, into: list[Result]) -> None:
        into += [Result("a.png", "done", "a.png"), Result("b.jpg", "failed", error="oh")]
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_batch", interrupted)
    assert run() == 130
    assert "interrupted with 1 photo of 4 done: the same command goes on with the rest" in capsys.readouterr().err
    assert [row["status"] for row in rows()] == ["done", "failed"]


def test_no_photo_is_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "bundle", "in/a.png", "-o", "in"]) == 1
    assert "the result of in/a.png would overwrite the photo in/a.png" in capsys.readouterr().err


def test_files_of_one_name_from_two_folders_are_refused(tmp_path: Path) -> None:
    for where in ("one", "two"):
        write(tmp_path / where / "a.png")
    with pytest.raises(OutputError, match="would both be written to .*a.png.png: run them apart"):
        jobs_of([tmp_path / "one", tmp_path / "two"], tmp_path / "out", Naming())


def test_a_folder_without_photos_and_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(PhotoError, match="holds no photos, expected files of"):
        jobs_of([tmp_path], tmp_path / "out", Naming())
    with pytest.raises(PhotoError, match="does not exist, expected a photo or a folder"):
        jobs_of([tmp_path / "nowhere"], tmp_path / "out", Naming())


def test_hidden_files_are_left_alone(folder: Path) -> None:
    write(Path("in/.hidden.png"))
    write(Path("in/.git/a.png"))
    assert len(jobs_of([Path("in")], Path("out"), Naming())) == 4


def test_a_torn_line_of_the_journal_is_no_line(folder: Path) -> None:
    assert run() == 0
    path = Path("out", NAME)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines)[: -len(lines[-1]) // 2] + "")
    Path("out/.a.png.123.part").touch()
    assert run() == 0
    assert (count("kept"), count("done")) == (3, 1)
    assert run() == 0
    assert count("kept") == 4
    assert not list(Path("out").rglob("*.part"))


def test_two_batches_do_not_write_to_one_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with journal(Path("out"), "run"):
        assert run() == 1
    assert "another cameo batch writes to out: wait for it" in capsys.readouterr().err
    assert run() == 0


def test_a_full_disk_ends_the_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OutputError("out/a.png could not be written (No space left on device)") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(making, "save", full)
    assert run() == 1
    assert "No space left on device" in capsys.readouterr().err
    assert rows() == []


def test_the_other_photos_of_a_model_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert varying_of(("template", "face"), {"face": Path("f")}) == "template"
    assert varying_of(("photo",), {}) == "photo"
    with pytest.raises(
        RequestError, match="of which all but one stay the same in a batch: give --template FILE or --fa"
    ):
        varying_of(("template", "face"), {})
    with pytest.raises(RequestError, match="the model takes photo, not face: leave that out"):
        varying_of(("photo",), {"face": Path("f")})


def test_photos_beside_their_results(folder: Path) -> None:
    assert run("--side-by-side") == 0
    picture = read_photo("out/sub/deep/c.png")
    assert picture.shape == (64, 128, 3)
    assert (picture[0, 0, 0], picture[0, -1, 0]) == (20, 255 - 20)


def test_quiet_prints_what_failed_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--quiet") == 0
    Path("in/bad.png").write_bytes(b"no photo")
    assert run("--quiet") == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("failed: bad.png: ")
    assert (len(printed.out.splitlines()), printed.err) == (1, "")


def test_one_is_said_of_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "one" / "a.png", 20)
    assert main(["batch", "bundle", "one", "-o", "out", "--aligned"]) == 0
    *_, photos, counts = capsys.readouterr().out.splitlines()
    assert photos == "1 photo"
    assert ", 0 failed, 1 face; " in counts


def test_a_batch_has_no_standard_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "bundle", "-", "-o", "out"]) == 2
    assert run(out="-") == 2
    assert "a batch has no standard input or output (-): name folders or files" in capsys.readouterr().err


def test_a_terminal_shows_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in/bad.png").write_bytes(b"no photo")
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", screen)
    assert run() == 1
    assert "1 face" in screen.getvalue()
    assert "1 faces" not in screen.getvalue()
    assert "5/5, 4 faces, 1 failed" in screen.getvalue()
    assert screen.getvalue().endswith(" \r")


CHILD = """
import sys, threading
from pathlib import Path
from cameo.commands import main
from cameo.testing import Strain, fake_bundle, image_session

begun = threading.Event()

def invert(image):
    if not begun.is_set():
        begun.set()
        print("running", flush=True)
    return 255 - image

session = image_session(invert, Strain(run_s=0.01))
with fake_bundle(Path("bundle"), "gpen", {"gpen-bfr-64": session}):
    sys.exit(main(["batch", "bundle", "in", "-o", "out", "--aligned"]))
"""


def child() -> subprocess.Popen[bytes]:
    """A batch whose first photo of this run is on the device."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert b"running\n" in process.stdout
    return process


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_no_half_picture_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    count = 400  # so many that the batch is never done before it is killed
    for value in range(count):
        write(Path(f"in/{value:03}.png"), value % 256, 300)
    moments, kept, further = random.Random(0), 0, 0
    for _ in range(20):
        process = child()
        time.sleep(moments.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL, "it was killed amid its work"
        assert process.stdout is not None
        process.stdout.close()
        pictures = [path for path in Path("out").rglob("*.png") if path.name[0] != "."]
        for path in pictures:
            assert read_photo(path)[0, 0, 0] == 255 - int(path.stem) % 256, "a picture that is there is whole"
        assert len(pictures) >= kept, "what was done stays done"
        further += len(pictures) > kept
        kept = len(pictures)
    assert further >= 10, "most kills came when some photos of that run were done, and others in work"
    process = child()
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert found() == [f"{value:03}.png" for value in range(count)]
    assert [row["status"] for row in rows()].count("kept") >= kept - 8
    assert not list(Path("out").rglob("*.part"))


def test_several_photos_are_in_flight(folder: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are read at the same moment."""
    read, came, met = making.read_picture, itertools.count(1), threading.Event()

    def reading(*arguments: Any) -> Any:
        if next(came) == 2:
            met.set()
        assert met.wait(20)
        return read(*arguments)

    monkeypatch.setattr(making, "read_picture", reading)
    assert run() == 0
