"""What ships for users' tests: sessions that compute with a function, and bundles that need no engine library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cameo
from cameo.backends import FAKES, backend_names
from cameo.commands import main
from cameo.errors import EngineError, EngineUnavailable, RequestError
from cameo.images import read_photo
from cameo.tensors import TensorSpec
from cameo.testing import IMAGE, FakeSession, fake_bundle, image_session
from engines import engine_names

PHOTO = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


def inverting() -> FakeSession:
    return image_session(lambda image: 255 - image)


def test_a_session_says_what_it_takes_and_gives() -> None:
    colour = TensorSpec("colour", "float32", ("N", 3))
    session = FakeSession(lambda image, colour: {"result": image + colour}, inputs=(IMAGE, colour), batches=(1, 4))
    made = session.run({"colour": np.ones((1, 3)), "image": PHOTO[None]})
    np.testing.assert_array_equal(made["result"], PHOTO[None] + 1.0)
    assert [spec.name for spec in session.inputs] == ["image", "colour"]
    assert (session.outputs[0].name, session.batches, session.shapes) == ("result", (1, 4), [(1, 64, 64, 3)])


def test_a_bundle_is_loaded_without_an_engine(tmp_path: Path) -> None:
    networks = {"gpen-bfr-64": inverting()}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder, cameo.load(folder, aligned=True) as restore:
        np.testing.assert_array_equal(np.asarray(restore(PHOTO)), 255 - PHOTO)
        assert restore.engines["gpen-bfr-64"].label == "fake-bundle fp32"
    assert networks["gpen-bfr-64"].shapes == [(1, 64, 64, 3)]


def test_a_network_that_an_option_needs_is_missed_before_others_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_bundle(tmp_path / "bundle", "gpen", {"gpen-bfr-64": inverting()}) as folder:
        monkeypatch.setattr(FAKES["fake-bundle"], "open_session", lambda *_: pytest.fail("it was loaded"))
        with pytest.raises(RequestError, match="no network realesrnet"):
            cameo.load(folder, sr=True)


def test_two_bundles_are_two(tmp_path: Path) -> None:
    same = {"gpen-bfr-64": image_session(lambda image: image)}
    with (
        fake_bundle(tmp_path / "one", "gpen", {"gpen-bfr-64": inverting()}) as one,
        fake_bundle(tmp_path / "two", "gpen", same) as two,
        cameo.load(one, aligned=True) as first,
        cameo.load(two, aligned=True) as second,
    ):
        np.testing.assert_array_equal(np.asarray(first(PHOTO)), 255 - PHOTO)
        np.testing.assert_array_equal(np.asarray(second(PHOTO)), PHOTO)


def test_commands_take_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    with fake_bundle(tmp_path / "bundle", "gpen", {"gpen-bfr-64": inverting()}) as folder:
        command = ["run", str(folder), str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.png"), "--aligned"]
        assert main(command) == 0
        assert main(["info", str(folder)]) == 0
    np.testing.assert_array_equal(read_photo(tmp_path / "out.png"), 255 - PHOTO)
    assert "model fake-gpen, flow gpen, which takes photo, built" in capsys.readouterr().out


def test_the_engine_is_there_for_the_test_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="as the test wants it"), fake_bundle(tmp_path / "b", "gpen", {}):
        raise EngineError("as the test wants it")
    with fake_bundle(tmp_path / "bundle", "gpen", {"gpen-bfr-64": inverting()}) as folder:
        pass
    assert not FAKES
    assert not any("fake" in name for name in (*backend_names(), *engine_names()))
    with pytest.raises(EngineUnavailable, match="does not know this engine"):
        cameo.load(folder)
    assert main(["doctor"]) == 0
    assert "fake" not in capsys.readouterr().out
