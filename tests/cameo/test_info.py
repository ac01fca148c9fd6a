"""What `cameo info` says of a bundle: what it is, what runs here, and what can be asked of it."""

import json
from pathlib import Path

import pytest

from cameo.backends import FAKES
from cameo.commands import main
from cameo.testing import fake_bundle, image_session
from tests.support.toy_flow import duet


def test_flow_modes_engines_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    networks = {"gpen-bfr-512": image_session(lambda image: image)}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder:
        assert main(["info", str(folder)]) == 0
        text = capsys.readouterr().out
        assert main(["info", str(folder), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
    assert f"{folder}: model fake-gpen, flow gpen, which takes photo" in text
    assert "modes: quality" in text
    assert "fake-bundle fp32" in text
    assert "runs here, and is the one that is taken" in text
    assert "  --alpha              " in text.partition("options of a call:")[2]
    assert "alpha" not in text.partition("options of loading:")[2].partition("options of a call:")[0]
    assert (facts["modes"], facts["takes"], facts["networks"][0]["runs_on"]) == (
        ["quality"],
        ["photo"],
        "fake-bundle fp32",
    )
    alpha = next(option for option in facts["options"]["call"] if option["name"] == "alpha")
    assert alpha["expected"] == "a number from 0 to 1"


@pytest.mark.parametrize("consent", ["", "It needs their consent."])
def test_consent_is_said_where_it_is_asked_for(
    consent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with duet(monkeypatch, tmp_path, consent) as folder:
        assert main(["info", str(folder)]) == 0
        said = capsys.readouterr().out
        assert main(["info", str(folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["consent"] == consent
    assert (f"consent: {consent}\n" in said) == bool(consent)


def test_why_an_engine_does_not_run_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = {"gpen-bfr-512": image_session(lambda image: image)}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder:
        monkeypatch.setattr(FAKES["fake-bundle"], "why_unavailable", lambda *_: "no such luck")
        assert main(["info", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "cannot run here: no such luck\n" in text
    assert "is taken" not in text
    assert main(["info", str(folder)]) == 0, "its engine is none that this version knows"
    assert "cannot run here: this version of Cameo does not know this engine" in capsys.readouterr().out
