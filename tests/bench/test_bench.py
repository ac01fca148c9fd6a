"""The bench: its rows, and the parts that its measurements are made of."""

import importlib
import json
import math
import pkgutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from bench import __main__ as bench
from bench import families, group_flow, group_photo, random_weights
from bench.families import gpen, lean
from bench.levels import LEVELS, add_levels_output
from bench.rows import Row, at_least, at_most, failed, table
from bench.turns import throughput
from cameo.backends import SessionOptions, backend
from cameo.bundle import EngineEntry, Profile
from cameo.errors import EngineError
from cameo.faces.alignment import square_template
from cameo.faces.finders.cascade import CascadeFinder
from cameo.images import photos_in
from cameo.testing import FakeSession, image_session
from metrics.measurement import Measurement
from tests.validate.bundles import halve, swap_channels, write_bundle
from validate.results import EngineResult, NetworkResult, PlannedMemory, Subject


@pytest.mark.parametrize(
    ("row", "holds"),
    [
        (at_least("speed", 3, 3.0, ""), True),
        (at_least("speed", 3, 2.99, ""), False),
        (at_least("speed", 3, math.nan, ""), False),
        (at_most("error", 1e-4, 1e-4, "", "of range"), True),
        (at_most("error", 1e-4, 1.1e-4, "", "of range"), False),
        (at_most("error", 1e-4, math.nan, "", "of range"), False),
    ],
)
def test_a_row_holds_at_its_limit_and_fails_beyond(row: Row, holds: bool) -> None:
    assert row.holds is holds
    assert (row in failed([row])) is not holds


def test_the_table_says_what_fails_and_leaves_open_what_was_not_measured() -> None:
    rows = [at_least("speed", 3, 2, "2 ×"), Row("memory", "≤ 1", "not run: no GPU", None)]
    text = table(rows)
    assert "| speed | ≥ 3 × | 2 × | **fails** |" in text
    assert "| memory | ≤ 1 | not run: no GPU |  |" in text
    assert failed(rows) == rows[:1]


FAMILY = """
from bench.rows import at_most
TITLE, LIBRARIES = "Sketch", ()
def measure(folder, say):
    return [at_most("error", 1, {value}, "{value}", "level")]
"""


@pytest.mark.parametrize(("value", "code"), [(1, 0), (2, 1)])
def test_a_family_is_a_file_and_a_broken_promise_is_an_exit_code(
    value: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"sketch{value}.py").write_text(FAMILY.format(value=value))
    monkeypatch.setattr(families, "__path__", [str(tmp_path)])
    assert bench.main(["--out", str(tmp_path / "out")]) == code
    page = (tmp_path / f"out/sketch{value}.md").read_text()
    assert "## Sketch" in page
    assert ("**fails**" in page) is (code == 1)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(families.__path__)])
def test_every_family_can_be_asked(name: str) -> None:
    """Nothing else imports them, and measuring takes too long for a test."""
    family = importlib.import_module(f"{families.__name__}.{name}")
    assert callable(family.measure)
    assert family.TITLE


def test_an_unknown_family_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["gpem", "--out", str(tmp_path / "out")]) == 2
    assert "no bench of gpem: choose of dctnet, face_fusion, gpen" in capsys.readouterr().err


def test_levels_are_what_the_last_cast_truncates(tmp_path: Path) -> None:
    onnx.save(halve(), tmp_path / "halve.onnx")
    add_levels_output(tmp_path / "halve.onnx", tmp_path / "levels.onnx")
    image = np.array([1, 2, 3], np.uint8).reshape(1, 1, 1, 3)
    with backend("onnxruntime").open_session(tmp_path / "levels.onnx", SessionOptions()) as session:
        outputs = session.run({"image": image})
    assert outputs[LEVELS].ravel().tolist() == [0.5, 1.0, 1.5]
    assert outputs["result"].ravel().tolist() == [0, 1, 1]


def test_levels_of_a_graph_that_does_not_end_in_a_cast_are_refused(tmp_path: Path) -> None:
    onnx.save(swap_channels(halve()), tmp_path / "swapped.onnx")
    with pytest.raises(ValueError, match="ends in Gather, expected a Cast"):
        add_levels_output(tmp_path / "swapped.onnx", tmp_path / "levels.onnx")


def test_the_faces_of_the_group_photo_are_where_it_says() -> None:
    group = group_photo.compose(12)
    assert group.image.shape == (1080, 1920, 3)
    assert len(group.faces) == 12
    centres = np.array([face.five_points.mean(axis=0) for face in group.faces])
    found = CascadeFinder()(group.image)[:4]
    assert len(found) == 4, "the larger ones are found again"
    for face in found:
        nearest = np.linalg.norm(centres - face.five_points.mean(axis=0), axis=1).min()
        assert nearest < 0.1 * (face.box[2] - face.box[0])


def _sessions(finder: FakeSession) -> dict[str, Any]:
    """Networks that change nothing, and a finder that finds nothing."""
    same = image_session(lambda image: image)
    parsed = FakeSession(lambda image: {"mask": np.zeros((len(image), 19, 512, 512), np.float32)})
    return {"gpen-bfr-64": same, "retinaface-r50": finder, "parsenet": parsed}


def _blind() -> FakeSession:
    return FakeSession(
        lambda image: {"loc": np.zeros((1, 0, 4)), "conf": np.zeros((1, 0, 2)), "landms": np.zeros((1, 0, 10))}
    )


def _feeds(*sizes: float) -> dict[str, Any]:
    """A photo with a face of each size, whose points are those of an upright face."""
    image = np.zeros((1, 200, 200, 3), np.uint8)
    points = np.array([square_template(64, 2 / 3) * size for size in sizes])
    return {"image": image, "boxes": np.tile(np.float32([0, 0, 64, 64]), (len(sizes), 1)), "points": points}


def test_known_faces_are_restored_after_the_finder_did_its_work() -> None:
    finder = _blind()
    with group_flow.GroupSession(_sessions(finder), lambda: None) as session:
        assert session.run(_feeds(1, 2, 3))["result"].shape == (1, 200, 200, 3)
    assert finder.shapes == [(1, 200, 200, 3)]


def test_a_face_that_is_not_restored_is_no_speed() -> None:
    """Points that coincide tell no place."""
    with pytest.raises(RuntimeError, match="2 of 3 faces were restored"):
        group_flow.GroupSession(_sessions(_blind()), lambda: None).run(_feeds(1, 2, 0))


def test_random_weights_are_the_same_again_and_draw_within_the_range(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from exporters.gpen.export import load_generator

    paths = [random_weights.write_checkpoint("gpen-bfr-256", tmp_path / name, narrow=1 / 16) for name in "ab"]
    first, second = (load_generator(path, "gpen-bfr-256") for path in paths)
    assert first.architecture.narrow == 1 / 16
    photo = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        picture = first(photo)
        assert torch.equal(picture, second(photo))
        assert 0.05 < picture.std() < 1
        assert (picture.abs() > 1).float().mean() < 0.1, "clipping would hide differences"
        assert not torch.equal(picture, first(-photo)), "the photo has a part in it"


@pytest.mark.parametrize(("mib", "holds"), [(320, True), (321, False)])
def test_planned_memory_of_one_face_is_held_against_its_target(mib: int, holds: bool, tmp_path: Path) -> None:
    shape = (1, 512, 512, 3)
    plans = [
        Profile("one", shape, shape, shape, "sm_86", 20 * 2**20, (mib - 20) * 2**20),
        Profile("four", shape, shape, (4, *shape[1:]), "sm_86", 20 * 2**20, 10**10),
        Profile("one", shape, shape, shape, "sm_120", 20 * 2**20, 10**10),
    ]

    def planned(entry: EngineEntry) -> EngineEntry:
        return replace(entry, engine="tensorrt-rtx", profiles=tuple(plans))

    bundle = write_bundle(tmp_path / "bundle", "gpen-bfr-512", {"fp16": halve(), "fp32": halve()}, planned)
    half, single = gpen._planned(gpen.Case(512, tmp_path, bundle))
    assert (half.holds, half.measured) == (holds, f"{mib} MiB")
    assert (single.holds, single.measured) == (None, f"{mib} MiB"), "FP32 has no target"


def test_large_batches_wait_for_memory_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpen.psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 2**30))
    monkeypatch.setattr(gpen.subprocess, "run", lambda *_, **__: pytest.fail("the original was run"))
    rows = list(gpen._fidelity(gpen.Case(2048, tmp_path, tmp_path), print))
    assert len(rows) == len(gpen.BATCHES)
    for row in rows:
        assert row.holds is None
        assert "8 GiB of memory are free, 16 wanted" in row.measured


@pytest.mark.parametrize(("levels", "result", "holds"), [(0.025, 1, [True, True]), (0.026, 2, [False, False])])
def test_fidelity_is_held_in_levels_and_before_truncation(
    levels: float, result: int, holds: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = SimpleNamespace(returncode=0, stdout=json.dumps({"onnxruntime": {LEVELS: levels, "result": result}}))
    monkeypatch.setattr(gpen.subprocess, "run", lambda *_, **__: said)
    (tmp_path / "GPEN-BFR-256.pth").touch()
    rows = list(gpen._fidelity(gpen.Case(256, tmp_path, tmp_path), print))
    assert [row.holds for row in rows] == holds * 2, "batch 1 and batch 3"


def test_a_comparison_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died = SimpleNamespace(returncode=-9, stdout="", stderr="")
    monkeypatch.setattr(gpen.subprocess, "run", lambda *_, **__: died)
    (tmp_path / "GPEN-BFR-256.pth").touch()
    with pytest.raises(EngineError, match="comparing gpen-bfr-256 failed: no output; free memory"):
        list(gpen._fidelity(gpen.Case(256, tmp_path, tmp_path), print))


def test_throughput_is_the_ratio_of_the_same_rounds() -> None:
    ratio, told = throughput((4000.0, 8000.0, 4000.0), (1000.0, 2000.0, 1000.0))
    assert ratio == 4
    assert told == "4.00 × (1.00 s against 4.00 s)"


def lean_network(psnr: float = 40.0, slow: float = 0.5, planned: float = 60.0) -> lean._Network:
    """A network in every form; `psnr` is that of the lighter ones, `slow` their time, `planned` their plan (of 100)."""

    def engine(
        name: str, precision: str, mode: str, *, psnr: float = 60.0, time: float = 1.0, mib: float = 100.0
    ) -> Any:
        found = [Measurement("x", metric, value, "", True) for metric, value in (("psnr", psnr), ("ssim", psnr / 41))]
        times = (100 * time, 110 * time, 90 * time)
        plan = (PlannedMemory("one", (1, 8, 8, 3), lean.TARGET, 1.0, mib - 1),) if name == "tensorrt-rtx" else ()
        return EngineResult(name, precision, "", 1, Subject("x", tuple(found), times), planned=plan, mode=mode)

    light = {"psnr": psnr, "time": slow, "mib": planned}
    engines = [engine(name, "fp32", lean.QUALITY) for name in ("onnxruntime", "tensorrt-rtx")]
    engines += [engine("openvino", "bf16", lean.QUALITY), engine("openvino", "int8", lean.BALANCED, **light)]
    engines += [engine("tensorrt-rtx", "fp16", lean.QUALITY, mib=planned / 1.2)]
    for mode in (lean.BALANCED, lean.FAST):
        engines += [engine(name, "fp32", mode, **light) for name in ("onnxruntime", "tensorrt-rtx")]
    lighter = {"steps": 9, "parameters": [100, 50], "macs": [100, 40]}
    records = {"fp16": {"gate": {"value": psnr + 15}}, "qat": {"steps": 9}, "pruned": lighter, "student": lighter}
    poor = engine("onnxruntime", "fp32", lean.BALANCED, psnr=27.0)
    case = lean._Case("m", "n", Path(), 50, (8, 8))
    result = NetworkResult("n", "", "", {}, ((8, 8),), (8, 8), Subject("original"), tuple(engines), records)
    return lean._Network(case, result, replace(result, engines=(poor,)))


def test_lean_rows_hold_where_all_is_well_and_fail_where_it_is_not() -> None:
    def verdicts(network: lean._Network) -> dict[str, bool | None]:
        rows = [*network.fp16(), *network.int8(), *network.pruned(), *network.student()]
        return {row.what: row.holds for row in rows}

    good = verdicts(lean_network())
    assert set(good.values()) == {True, None}
    open_ = {what for what, holds in good.items() if holds is None}
    assert open_ == {what for what in good if "student" in what or what.endswith("8×8: throughput")}
    poor = verdicts(lean_network(psnr=33.0, slow=0.9, planned=85.0))
    still = {what for what, holds in poor.items() if holds}
    assert still == {"n pruned by 30%: parameters", "n pruned by 30%: MACs"}


def test_the_photos_to_learn_from_are_there(tmp_path: Path) -> None:
    assert {path.name for path in photos_in(lean._photos(tmp_path / "photos"))} == set(lean.PHOTOS)
