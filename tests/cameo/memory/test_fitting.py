"""What was measured of a bundle decides which engine is opened, how many rows run, and how large tiles are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import cameo
from cameo.backends import FAKES
from cameo.bundle import Bundle
from cameo.commands import main
from cameo.errors import BundleError, EngineUnavailable, OutOfMemory, OutputError, PhotoTooLarge
from cameo.memory import calibration, measuring
from cameo.memory.calibration import Measured, Point, keep, key_of, known_of, read
from cameo.memory.measuring import measure
from cameo.session import Session
from cameo.testing import FakeSession, fake_bundle, image_session
from cameo.tiles import Enlarger, fitting_tile
from cameo.workers.calls import Served, WorkOptions
from cameo.workers.shelf import Shelf

NET = "gpen-bfr-64"
MIB = 2**20


def measured(fixed: int, per_pixel: int, base: int = 0) -> Measured:
    """A network that takes so much."""
    points = tuple(Point(pixels, 1, fixed + per_pixel * pixels, 1000) for pixels in (4096, 8192))
    return Measured(base, points)


@pytest.fixture
def session() -> FakeSession:
    return image_session(lambda image: 255 - image)


@pytest.fixture
def bundle(tmp_path: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with fake_bundle(tmp_path / "bundle", "gpen", {NET: session}) as folder:
        yield Bundle(folder)


def key(bundle: Bundle) -> str:
    return key_of(NET, bundle.networks[NET].engines[0])


def test_measurements_are_kept_beside_the_bundle_never_inside(bundle: Bundle) -> None:
    before = sorted(bundle.folder.rglob("*"))
    path = keep(bundle, "cpu", {key(bundle): measured(MIB, 100)})
    assert path == bundle.folder.with_name("bundle.calibration.json")
    assert sorted(bundle.folder.rglob("*")) == before
    assert known_of(bundle, "cpu")[key(bundle)].need.per_pixel == pytest.approx(100)


def test_measuring_again_replaces_an_engine_and_keeps_the_others(bundle: Bundle) -> None:
    keep(bundle, "cpu", {"a": measured(1, 1), "b": measured(2, 2)})
    keep(bundle, "cpu", {"b": measured(3, 3)})
    known = known_of(bundle, "cpu")
    assert [round(known[name].need.per_pixel) for name in "ab"] == [1, 3]


def test_another_bundle_or_device_is_another_record(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(bundle, "cpu", {"a": measured(1, 1)})
    monkeypatch.setattr(calibration, "device_name", lambda place: "another")
    assert known_of(bundle, "cpu") == {}
    keep(bundle, "cpu", {"a": measured(5, 5)})
    assert len(read(bundle.folder.with_name("bundle.calibration.json")).records) == 2


def test_where_nothing_can_be_written_beside_it_the_cache_has_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = calibration._write

    def refusing(path: Path, content: calibration.Calibration) -> None:
        if path.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        write(path, content)

    monkeypatch.setattr(calibration, "_write", refusing)
    path = keep(bundle, "cpu", {key(bundle): measured(MIB, 100)})
    assert path.parent == tmp_path / "cache/cameo"
    assert key(bundle) in known_of(bundle, "cpu")
    monkeypatch.setattr(
        calibration, "_write", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(OutputError, match="could not be written to .*json .*denied.* nor .*: free some space"):
        keep(bundle, "cpu", {})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9}', '{"format": 1, "records": 3}', '{"format": 1}'])
def test_a_damaged_file_is_a_sentence(bundle: Bundle, text: str) -> None:
    bundle.folder.with_name("bundle.calibration.json").write_text(text)
    with pytest.raises(BundleError, match="cannot be used .*: delete it, or run `cameo calibrate` again"):
        cameo.load(bundle.folder)


def test_the_impossible_is_refused_with_what_would_fit(bundle: Bundle) -> None:
    keep(bundle, "cpu", {key(bundle): measured(200 * MIB, 160, base=50 * MIB)})
    with pytest.raises(OutOfMemory, match="100 MiB as given: the least that it takes is about 260 MiB, on fake-bundle"):
        cameo.load(bundle.folder, memory="100MiB")
    with cameo.load(bundle.folder, memory="261MiB", aligned=True) as model:
        model(np.zeros((64, 64, 3), np.uint8))


def test_what_is_said_to_be_enough_is(bundle: Bundle) -> None:
    """Amounts are rounded up in it: 11.3 MiB do not fit into 11."""
    keep(bundle, "cpu", {key(bundle): measured(11 * MIB + 300_000, 0)})
    with pytest.raises(OutOfMemory, match="11 MiB as given: the least that it takes is about 12 MiB, on"):
        cameo.load(bundle.folder, memory="11MiB")
    cameo.load(bundle.folder, memory="12MiB").close()


def test_where_files_alone_are_too_large_nothing_is_said_to_be_enough(bundle: Bundle) -> None:
    with pytest.raises(OutOfMemory) as refused:
        cameo.load(bundle.folder, memory=1)
    assert "takes is at least 1 MiB, on fake-bundle fp32, and how much more was never measured" in str(refused.value)
    assert f"(`cameo calibrate {bundle.folder}`); give it more (`memory`), or" in str(refused.value)


def test_a_picture_that_does_not_fit_is_refused_before_it_runs(bundle: Bundle, session: FakeSession) -> None:
    keep(bundle, "cpu", {key(bundle): measured(0, 160)})
    with cameo.load(bundle.folder, memory=160 * 256 * 256, aligned=True) as model:
        network = model._networks[NET]
        assert network.most_pixels == 256 * 256
        with pytest.raises(PhotoTooLarge, match=f"0.26 megapixels in {NET}, the budget of 10 MiB has room for 0.07"):
            network.run({"image": np.zeros((1, 512, 512, 3), np.uint8)})
    assert session.shapes == []


def test_the_engine_that_takes_less_is_opened_where_the_usual_does_not_fit(
    tmp_path: Path, session: FakeSession
) -> None:
    """Two modes of one network, which the fake bundle's manifest is rewritten for."""
    from dataclasses import replace

    with fake_bundle(tmp_path / "bundle", "gpen", {NET: session}) as folder:
        manifest = Bundle(folder).manifest
        network = manifest.networks[NET]
        small = replace(network.engines[0], mode="fast")
        both = replace(network, engines=(*network.engines, small))
        (folder / "bundle.json").write_text(replace(manifest, networks={NET: both}).to_json())
        bundle = Bundle(folder)
        entries = bundle.networks[NET].engines
        needs = {key_of(NET, entries[0]): measured(200 * MIB, 0), key_of(NET, entries[1]): measured(20 * MIB, 0)}
        keep(bundle, "cpu", needs)
        for memory, mode in (("300MiB", "quality"), ("100MiB", "fast")):
            with cameo.load(folder, memory=memory) as model:
                assert model.engines[NET].mode == mode
        with pytest.raises(OutOfMemory, match="about 200 MiB, on fake-bundle fp32;"):
            cameo.load(folder, memory="100MiB", mode="quality")
        assert "20 MiB" not in cameo.load(folder, memory="300MiB").memory()


def test_rows_follow_the_budget(bundle: Bundle) -> None:
    keep(bundle, "cpu", {key(bundle): measured(0, 160)})
    with cameo.load(bundle.folder, memory=160 * 256 * 256) as model:
        assert model._networks[NET]._affordable(64 * 64) == 16


def test_models_of_one_runtime_share_its_budget(bundle: Bundle) -> None:
    from cameo.runtime import Runtime

    keep(bundle, "cpu", {key(bundle): measured(40 * MIB, 0)})
    runtime = Runtime("100MiB")
    with cameo.load(bundle.folder, runtime=runtime), cameo.load(bundle.folder, runtime=runtime) as second:
        assert runtime.budgets({"cpu"})["cpu"].left == 20 * MIB
        assert second.run(np.zeros((9, 9, 3), np.uint8), second.request(aligned=True)).image.shape == (64, 64, 3)
    assert runtime.budgets({"cpu"})["cpu"].left == 100 * MIB
    runtime.close()


def test_in_turn_the_largest_network_counts_and_not_their_sum(tmp_path: Path, session: FakeSession) -> None:
    networks = {NET: session, "parsenet": image_session(lambda image: image)}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder:
        engines = {name: network.engines[0] for name, network in Bundle(folder).networks.items()}
        sizes = {NET: measured(60 * MIB, 160, base=20 * MIB), "parsenet": measured(50 * MIB, 320)}
        keep(Bundle(folder), "cpu", {key_of(name, engines[name]): size for name, size in sizes.items()})
        with pytest.raises(OutOfMemory, match="100 MiB as given: the least that it takes is about 150 MiB"):
            cameo.load(folder, memory="100MiB")
        with cameo.load(folder, memory="100MiB", low_memory=True) as model:
            assert model.runtime.budgets({"cpu"})["cpu"].left == 20 * MIB
        assert model.runtime.budgets({"cpu"})["cpu"].left == 80 * MIB
        with pytest.raises(OutOfMemory, match="85 MiB as given: the least that it takes is about 90 MiB"):
            cameo.load(folder, memory="85MiB", low_memory=True)


def test_tiles_are_smaller_where_large_ones_do_not_fit() -> None:
    assert fitting_tile(None, 10) is None
    assert fitting_tile(256, None) == fitting_tile(256, 256 * 256) == 256
    assert fitting_tile(256, 200 * 200) == 200
    assert fitting_tile(256, 202 * 202) == 200
    assert fitting_tile(256, 10) == 128

    class Small(FakeSession):
        most_pixels = 160 * 160

    network = Small(lambda image: {"result": image})
    photo = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    np.testing.assert_array_equal(Enlarger(network, 1, 256)(photo), photo)
    assert {shape[1:3] for shape in network.shapes} == {(160, 160)}


def test_info_says_budget_and_use(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(bundle.folder)]) == 0
    assert (
        f"{NET} on fake-bundle fp32: not measured (`cameo calibrate`), so at most 4 rows of 256x256"
        in capsys.readouterr().out
    )
    keep(bundle, "cpu", {key(bundle): measured(3 * MIB, 160)})
    assert main(["info", str(bundle.folder)]) == 0
    out = capsys.readouterr().out
    assert "memory (cpu): budget " in out
    assert ", 0.8 of what is free, " in out
    assert (
        "3 MiB + 153 MiB for each megapixel that runs (measured); up to 32 rows of 256x256 at once, if that pays" in out
    )


def test_a_loaded_model_says_what_it_does(bundle: Bundle) -> None:
    with cameo.load(bundle.folder, memory="4GiB", aligned=True) as model:
        assert repr(model) == "<cameo.Loaded fake-gpen: photo -> picture on fake-bundle fp32>"
        model(np.zeros((64, 64, 3), np.uint8))
        lines = model.memory().splitlines()
        assert lines[0].startswith("memory (cpu): budget 4.0 GiB as given, ")
        assert lines[1] == f"{NET}: no batch was timed often enough yet"
    assert repr(model).endswith(", closed>")


def test_a_budget_that_limits_nothing_is_said_to(bundle: Bundle) -> None:
    said = f"Of {NET} the budget of 350 MiB counts the file alone, and does not limit what is taken when it runs"
    with cameo.load(bundle.folder, memory="350MiB") as model:
        assert said in model.describe()
        assert f"run `cameo calibrate {bundle.folder}`" in model.notes[-1]
    with cameo.load(bundle.folder) as model:
        assert said[:10] not in model.describe(), "nobody gave one"
    shelf = Shelf([Served("one", bundle.folder)], WorkOptions("350MiB"))
    shelf.open_all()
    assert said in shelf.opened()[0].notes[-1]
    shelf.close()
    keep(bundle, "cpu", {key(bundle): measured(3 * MIB, 160)})
    with cameo.load(bundle.folder, memory="350MiB") as model:
        assert said[:10] not in model.describe()


def test_the_child_measures_every_size_from_small_to_large(bundle: Bundle, session: FakeSession) -> None:
    told = measure(lambda: session, bundle.networks[NET], "cpu")
    sizes = [point[0] * point[1] for point in told["points"]]
    assert sizes == sorted(sizes)
    assert {point[1] for point in told["points"]} == {1, 2, 4}
    assert told["base"] > 10 * MIB


def test_what_takes_long_is_not_made_larger(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_LONGEST_S", 0.0)
    session = image_session(lambda image: image)
    assert len(measure(lambda: session, bundle.networks[NET], "cpu")["points"]) == 1


def test_calibrate_writes_what_children_measured(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "in_child", lambda *_: measured(2 * MIB, 105))
    assert main(["calibrate", str(bundle.folder)]) == 0
    out = capsys.readouterr().out
    assert f"{NET} on fake-bundle fp32: 2 MiB + 100 MiB for each megapixel that runs" in out
    assert json.loads(bundle.folder.with_name("bundle.calibration.json").read_text())["records"]


def test_a_child_that_fails_is_a_sentence(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Fakes live in this process alone: the child knows none."""
    assert main(["calibrate", str(bundle.folder)]) == 1
    assert f"{NET} could not be measured on fake-bundle fp32: " in capsys.readouterr().err


def test_without_an_engine_to_measure_it_says_so(bundle: Bundle) -> None:
    FAKES["fake-bundle"].why_unavailable = lambda *_: "not here"  # type: ignore[method-assign]
    with pytest.raises(EngineUnavailable, match="has no engine to measure here"):
        measuring.calibrate(bundle, print)


def test_sessions_say_what_fits_through_noise_too() -> None:
    from cameo.noise import SeededNoise

    class Some(FakeSession):
        most_pixels = 7

        def rows_at_once(self, pixels: int) -> int:
            return 3

    noisy: Session = SeededNoise(Some(lambda image: {"result": image}), ())
    assert (noisy.most_pixels, noisy.rows_at_once(1)) == (7, 3)
