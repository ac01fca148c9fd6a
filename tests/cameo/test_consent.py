"""A flow that asks for the consent of those who are shown gets it at every door, or does nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import cameo
from cameo.commands import main
from cameo.errors import RequestError
from cameo.flows import consent_of
from tests.support.served import photo_server, png
from tests.support.toy_flow import CONSENT, duet
from validate.flow_session import open_flow

SAID = f"{CONSENT[:-1]}: say that they agree"
PHOTOS = [np.full((8, 6, 3), value, np.uint8) for value in (200, 40)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    for name, photo in zip(("template.png", "face.png"), PHOTOS, strict=True):
        Image.fromarray(photo).save(name)
    return tmp_path


@pytest.fixture
def bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with duet(monkeypatch, folder, CONSENT) as bundle:
        yield bundle


def run(*options: str) -> int:
    return main(["run", str(Path("bundle").resolve()), "template.png", "face.png", "-o", "out.png", *options])


def remembered() -> Path:
    return Path("settings/cameo/consent.json")


def test_the_library_wants_it_at_loading_or_with_each_call(bundle: Path) -> None:
    with cameo.load(bundle) as model:
        assert model.consent == CONSENT
        with pytest.raises(RequestError, match=SAID):
            model(*PHOTOS)
        with pytest.raises(RequestError, match=SAID):
            model.run(PHOTOS)
        assert set(model.run(PHOTOS, consent=True).image.flat) == {40}
        assert set(np.asarray(model(*PHOTOS, consent=True)).flat) == {40}
        with pytest.raises(RequestError, match=SAID):
            model.run(PHOTOS)
    with cameo.load(bundle, consent=True) as model:
        assert set(np.asarray(model(*PHOTOS)).flat) == {40}


def test_a_flow_without_a_sentence_asks_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with duet(monkeypatch, folder) as bundle:
        assert set(np.asarray(cameo.load(bundle)(*PHOTOS)).flat) == {40}
        assert run("--consent") == 0
    assert not remembered().exists()


def test_the_command_line_asks_once(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert f"error: {SAID} (--consent)" in capsys.readouterr().err
    assert not Path("out.png").exists()
    assert not remembered().exists()
    assert run("--consent") == 0
    assert json.loads(remembered().read_text()) == {"duet": CONSENT}
    assert run() == 0


@pytest.mark.parametrize("content", ['{"duet": "another sentence"}', '{"gpen": "x"}', "[]", "noise"])
def test_what_was_agreed_to_is_this_sentence(bundle: Path, content: str) -> None:
    remembered().parent.mkdir(parents=True)
    remembered().write_text(content)
    assert run() == 2
    assert run("--consent") == 0
    assert json.loads(remembered().read_text())["duet"] == CONSENT


@pytest.mark.parametrize("options", [("--alpha", "9"), ("--sr",), ("--engine", "none")])
def test_a_run_that_was_refused_is_not_remembered(bundle: Path, options: tuple[str, ...]) -> None:
    assert run("--consent", *options) != 0
    assert not remembered().exists()


def test_a_run_that_made_no_picture_is_not_remembered(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        Path(name).write_text("no picture")
    assert main(["fuse", "a.png", "b.png", "face.png", "-o", "out", "--bundle", str(bundle), "--consent"]) == 1
    assert "2 of 2 pictures could not be made" in capsys.readouterr().err
    assert not remembered().exists()
    Image.fromarray(PHOTOS[0]).save("a.png")
    assert main(["fuse", "a.png", "b.png", "face.png", "-o", "out", "--bundle", str(bundle), "--consent"]) == 1
    assert remembered().exists()


def test_a_user_without_a_home_is_asked_each_time(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("APPDATA")
    monkeypatch.setattr(Path, "home", no_home)
    assert run() == 2
    assert run("--consent") == 0
    assert "--consent is not remembered, the next run needs it again (Could not" in capsys.readouterr().err


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_what_cannot_be_remembered_is_said(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("settings").write_text("a file where a folder should be")
    assert run("--consent") == 0
    assert "--consent is not remembered" in capsys.readouterr().err
    assert Path("out.png").exists()


def test_the_server_wants_it_with_each_request(bundle: Path) -> None:
    files = {"template": png(200), "face": png(40)}
    with photo_server(bundle) as server:
        client = TestClient(server.app)
        for fields in ({}, {"consent": "no"}, {"consent": ""}):
            answer = client.post("/run", files=files, data=fields)
            assert (answer.status_code, SAID in answer.json()["error"]) == (400, True)
        assert client.post("/run", files=files, data={"consent": "yes"}).status_code == 200
        assert client.post("/run", files=files).status_code == 400
        page = client.get("/").text
    assert page.count('type="checkbox" name="consent" value="yes"') == 1
    assert f'data-remember="{CONSENT}"' in page


def test_the_page_of_others_has_no_checkbox(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with duet(monkeypatch, folder) as bundle, photo_server(bundle) as server:
        assert "checkbox" not in TestClient(server.app).get("/").text


def test_validation_needs_none(bundle: Path) -> None:
    settings = dict.fromkeys(("engine", "precision", "mode", "device"), "")
    spec = {"bundle": str(bundle), "originals": {}, "threads": 0, "declaring": {}, **settings}
    flow = open_flow(spec)
    try:
        feeds = {"template": PHOTOS[0][None], "face": PHOTOS[1][None]}
        assert set(flow.run(feeds)["result"].flat) == {40}
    finally:
        flow.close()


def test_the_sentence_is_optional(bundle: Path) -> None:
    assert consent_of(cameo.flows.flow_module("duet")) == CONSENT
    assert consent_of(cameo.flows.flow_module("gpen")) == ""
