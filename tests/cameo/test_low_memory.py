"""Networks in turns: one is open at a time, whoever runs them, and what is wrong is said at loading."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cameo
from cameo import low_memory
from cameo.backends import FAKES, SessionOptions
from cameo.backends._turns import TakingTurns
from cameo.commands import main
from cameo.errors import BundleError, EngineError
from cameo.low_memory import InTurn, OneOpen
from cameo.session import Session, Tensor
from cameo.testing import IMAGE, RESULT, fake_bundle, image_session

PHOTO = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


class Device:
    """Counts the networks that are open on it, and all that ever were."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.opened: list[str] = []
        self.most = 0

    def session(self, name: str, added: int) -> Session:
        return _Adding(self, name, added)


class _Adding(TakingTurns):
    """image -> image + `added`."""

    def __init__(self, device: Device, name: str, added: int) -> None:
        super().__init__(name)
        self.inputs, self.outputs, self.batches = (IMAGE,), (RESULT,), (added,)
        self._device, self._name, self._added = device, name, added
        device.open.append(name)
        device.opened.append(name)
        device.most = max(device.most, len(device.open))

    def _checked(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._closed:
            raise EngineError(f"{self._name} was closed while it was its turn")
        return dict(feeds)

    def _run(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"result": arrays["image"] + self._added}

    def _free(self) -> None:
        self._device.open.remove(self._name)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def networks(device: Device) -> list[InTurn]:
    place = OneOpen()
    return [InTurn(place, lambda n=n: device.session(str(n), n)) for n in range(3)]


def result_of(session: Session, image: int = 7) -> int:
    return int(session.run({"image": np.array(image)})["result"])


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads change as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_each_is_opened_once_at_loading_and_then_at_its_turn(device: Device, networks: list[InTurn]) -> None:
    assert (device.opened, device.open, device.most) == (["0", "1", "2"], ["2"], 1)
    assert [result_of(networks[n]) for n in (2, 2, 0, 0, 1)] == [9, 9, 7, 7, 8]
    assert device.opened == ["0", "1", "2", "0", "1"], "who runs again stays open"
    assert (device.open, device.most) == (["1"], 1)


def test_what_they_take_is_known_while_they_are_closed(networks: list[InTurn]) -> None:
    assert [(n.inputs, n.outputs, n.batches) for n in networks] == [((IMAGE,), (RESULT,), (k,)) for k in range(3)]


def test_any_thread_runs_any(
    device: Device, networks: list[InTurn], switching: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_memory, "give_back", lambda: None)  # of a large process, it takes 30 ms each time
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: result_of(networks[n % 3], n), range(200)))
    assert results == [n + n % 3 for n in range(200)]
    assert device.most == 1


def test_closed_is_closed(device: Device, networks: list[InTurn]) -> None:
    networks[0].close()
    assert device.open == ["2"], "another's turn is not ended"
    for network in networks:
        network.close()
        network.close()
    assert device.open == []
    with pytest.raises(EngineError, match="after its session was closed"):
        networks[1].run({"image": PHOTO})
    assert device.open == []


def test_one_that_cannot_be_opened_again_leaves_the_others(device: Device) -> None:
    place, broken = OneOpen(), []

    def open_it() -> Session:
        if broken:
            raise EngineError("its file is gone")
        return device.session("a", 1)

    first, second = InTurn(place, open_it), InTurn(place, lambda: device.session("b", 2))
    broken.append(True)
    with pytest.raises(EngineError, match="its file is gone"):
        first.run({"image": PHOTO})
    assert device.open == []
    assert result_of(second) == 9
    broken.clear()
    assert result_of(first) == 8


def test_a_model_in_turns_gives_the_same_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    networks = {"gpen-bfr-64": image_session(lambda image: 255 - image)}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder:
        with cameo.load(folder, aligned=True, low_memory=True) as restore:
            np.testing.assert_array_equal(np.asarray(restore(PHOTO)), 255 - PHOTO)
        out = tmp_path / "out.png"
        arguments = [str(folder), str(tmp_path / "photo.png"), "-o", str(out), "--aligned", "--low-memory"]
        assert main(["run", *arguments]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out)), 255 - PHOTO)


def test_errors_of_any_network_are_found_at_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last network too: its file is checked and its engine opened before there is a photo."""
    networks = {name: image_session(lambda image: image) for name in ("gpen-bfr-64", "parsenet")}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder:
        engine: Any = FAKES["fake-bundle"]
        usual = engine.open_session

        def open_session(path: Path, options: SessionOptions) -> Session:
            if path.name.startswith("parsenet"):
                raise EngineError("it was built for other GPUs")
            session: Session = usual(path, options)
            return session

        monkeypatch.setattr(engine, "open_session", open_session)
        with pytest.raises(EngineError, match="built for other GPUs"):
            cameo.load(folder, low_memory=True)
        (folder / "engines" / "parsenet.fake-bundle").write_text("another")
        with pytest.raises(BundleError, match="was changed since the bundle was built"):
            cameo.load(folder, low_memory=True)
