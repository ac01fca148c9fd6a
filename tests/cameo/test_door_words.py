"""What is said of an option is said in the words of the door that was used: a keyword, a flag, or a form's field."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from starlette.testclient import TestClient

import cameo
from cameo.commands import main
from cameo.declaring import declarations, flagged, named
from cameo.errors import RequestError
from cameo.faces.alignment import square_template
from cameo.faces.face import Face
from cameo.flows import flow_module, flow_names, gpen
from cameo.opening import LoadOptions
from cameo.testing import fake_bundle, image_session
from cameo.workers.calls import Served
from tests.support.doors import Finds
from tests.support.served import photo_server, png

SOURCES = Path(cameo.__file__).parent
OPTIONS = {
    one.name
    for kind in (LoadOptions, *(m for f in flow_names() for m in (flow_module(f).Options, flow_module(f).Request)))
    for one in declarations(kind)
}
ELSEWHERE = ("command_line/", "server/", "testing.py")  # of one door each, and so in its words already


def sentences(source: str) -> Iterator[str]:
    """Every text of more than a word that is no docstring, with {} for what is filled in."""
    tree = ast.parse(source)
    told = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    parts = {id(part) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr) for part in one.values}
    for one in ast.walk(tree):
        if id(one) in told | parts:
            continue
        if isinstance(one, ast.JoinedStr):
            values = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in one.values)
            yield "".join(values)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and " " in one.value:
            yield one.value


def unmarked(sentence: str) -> list[str]:
    """The options that a sentence names as no door would: bare, where they cannot be words or are called options."""
    bare = re.sub(r"`\w+`", "", sentence)
    words = set(re.findall(r"(?<![\w'-])[a-z]+(?:_[a-z]+)+", bare)) | set(re.findall(r"\b[Oo]ptions? (\w+)", bare))
    return sorted(words & OPTIONS)


def test_no_sentence_names_an_option_in_the_words_of_one_door() -> None:
    assert unmarked("Option max_faces of gpen is 0: leave out allow_no_face") == ["allow_no_face", "max_faces"]
    assert unmarked("the option sr") == ["sr"]
    found = {
        f"{path.relative_to(SOURCES)}: {', '.join(names)} in {sentence!r}"
        for path in SOURCES.rglob("*.py")
        if not path.relative_to(SOURCES).as_posix().startswith(ELSEWHERE)
        for sentence in sentences(path.read_text())
        if (names := unmarked(sentence))
    }
    assert not found


def test_a_flag_is_an_option_that_is_known() -> None:
    said = f"{named('max_faces', 'sr')} and `serve`, not max_faces"
    assert flagged(said, {"max_faces", "sr"}) == "--max-faces, --sr and `serve`, not max_faces"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bundle of GPEN without another network, and a photo in which three faces are found; it is the current one."""
    monkeypatch.chdir(tmp_path)
    points = 0.3 * square_template(64, 2 / 3)
    faces = Finds(*(Face(np.array([0, 0, 20, 20], np.float32), 1 - n / 100, None, points + 15 * n) for n in range(3)))
    monkeypatch.setattr(gpen, "CascadeFinder", lambda: faces)
    Path("a.png").write_bytes(png(9, (64, 64)))
    with fake_bundle(tmp_path / "bundle", "gpen", {"gpen-bfr-64": image_session(lambda image: image)}):
        yield Path("bundle")


def test_the_library_says_keywords(folder: Path) -> None:
    with cameo.load(folder, max_faces=1) as model:
        assert "were restored: `max_faces` says how many." in model.run("a.png").note
        with pytest.raises(RequestError, match="Option `max_faces` of gpen is 0"):
            model.request(max_faces=0)
    with pytest.raises(RequestError, match="expected one for the option `sr`"):
        cameo.load(folder, sr=True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max-faces", "0"], "Option --max-faces of gpen is 0, expected a whole number of at least 1, or all."),
        (["--sr"], "expected one for the option --sr: build it with its weights, or leave out --sr."),
        (["--template-face", "1"], "gpen has no option --template-face, expected one of --aligned, --alpha, --max-"),
        (["--threads", "9999"], "Option --threads of load is 9999"),
        (["--memory", "1B"], "give it more (--memory)"),
    ],
)
@pytest.mark.parametrize("command", ["run", "batch"])
def test_the_command_line_says_flags(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, flags: list[str], said: str
) -> None:
    assert main([command, "bundle", "a.png", "-o", "out/", *flags]) in (1, 2)
    printed = capsys.readouterr().err
    assert said in printed
    assert "`" not in re.sub("`cameo calibrate .*?`", "", printed)


def test_notes_on_the_command_line_say_flags(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = "Of 3 faces only the 1 of the best score were restored: --max-faces says how many."
    assert main(["run", "bundle", "a.png", "-o", "out.png", "--max-faces", "1"]) == 0
    assert note in capsys.readouterr().out
    assert main(["run", "bundle", "a.png", "-o", "out.png", "--max-faces", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photos"][0]["note"] == note
    assert main(["batch", "bundle", "a.png", "-o", "out", "--max-faces", "1"]) == 0
    assert note in Path("out/results.csv").read_text()


def test_only_what_the_bundle_can_do_is_offered_instead(folder: Path) -> None:
    with pytest.raises(RequestError, match="no option `sketch`, expected one of .*`max_faces`") as refused:
        cameo.load(folder, sketch=1)
    assert "`sr`" not in str(refused.value)
    assert "`tile`" not in str(refused.value)


def test_http_says_fields(folder: Path) -> None:
    with photo_server(Served("test", folder)) as server:
        client, files = TestClient(server.app), {"photo": Path("a.png").read_bytes()}
        answer = client.post("/v1/models/test", files=files, data={"max_faces": "0"})
        assert answer.json()["error"].startswith("Option `max_faces` of gpen is 0")
        answer = client.post("/v1/models/test", files=files, data={"max_faces": "1"})
        assert "restored: `max_faces` says how many." in unquote(answer.headers["x-cameo-note"])


def test_help_says_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "side of the tiles of --sr, or none" in " ".join(capsys.readouterr().out.split())
