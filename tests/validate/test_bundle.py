"""A real bundle against its original: a faithful export passes, and broken ones fail the gates by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from cameo.artifact import Artifact
from cameo.bundle import EngineEntry, Profile
from cameo.errors import CameoError, CheckpointError, GateError, PhotoError
from exporters.dctnet.export import exporter
from metrics.measurement import Gate, find
from metrics.sizes import Sizes
from metrics.timing import Rounds
from tests.support.frozen_graphs import write_small
from tests.validate.bundles import halve, narrow_range, swap_channels, write_bundle
from validate import contenders
from validate.bundle import ValidationOptions, raise_if_failed, readable, run_validation
from validate.results import EngineResult, Report

_OPTIONS = ValidationOptions(((32, 32), (24, 40)), (32, 48), Rounds(least=3, most=3), timeout_s=120, flow=False)
_EXACT = (Gate("max_difference", 1), Gate("changed_share", 0.1), Gate("psnr", 45, network="dctnet-head"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 50, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("weights") / "cartoon_h.pb")


@pytest.fixture(scope="module")
def report(weights: Path, photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A faithful engine, two broken ones and one that no machine can run, against the original."""
    folder = tmp_path_factory.mktemp("bundles")
    exporter("dctnet-head").run(weights, folder / "head.onnx")
    faithful = onnx.load(folder / "head.onnx")
    engines = {
        "fp32": faithful,
        "swapped": swap_channels(faithful),
        "narrow": narrow_range(faithful),
        "planned": faithful,
    }
    bundle = write_bundle(folder / "head", "dctnet-head", engines, _planned)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "backend", _no_planned_engine(contenders.backend))
        return run_validation(bundle, {"dctnet-head": Artifact.of(weights)}, [photo], _EXACT, _OPTIONS)


def _planned(entry: EngineEntry) -> EngineEntry:
    """The engine called "planned" as one that is built ahead of time for a GPU."""
    if entry.precision != "planned":
        return entry
    profile = Profile("to-64", (1, 16, 16, 3), (1, 32, 32, 3), (1, 64, 64, 3), "sm_86", 6 * 2**20, 4 * 2**20)
    return replace(entry, engine="gpu-only", profiles=(profile,))


def _no_planned_engine(backend):
    class GpuOnly:
        def why_unavailable(self, precision: str, device: str = "") -> str:
            return "there is no GPU"

    return lambda engine: GpuOnly() if engine == "gpu-only" else backend(engine)


def _engine(report: Report, precision: str) -> EngineResult:
    return next(engine for engine in report.networks[0].engines if engine.precision == precision)


def test_a_faithful_engine_passes_every_gate(report: Report) -> None:
    verdicts = {
        str(gate): gate.passed for gate in report.gates if gate.measurement.subject == "dctnet-head/onnxruntime-fp32"
    }
    assert len(verdicts) == 3
    assert all(verdicts.values()), verdicts


@pytest.mark.parametrize("broken", ["swapped", "narrow"])
def test_a_broken_engine_fails_every_gate(report: Report, broken: str) -> None:
    verdicts = [gate for gate in report.gates if gate.measurement.subject == f"dctnet-head/onnxruntime-{broken}"]
    assert len(verdicts) == 3
    assert not any(gate.passed for gate in verdicts), list(map(str, verdicts))
    assert not report.passed


def test_the_error_names_every_failure(report: Report) -> None:
    with pytest.raises(GateError, match=r"test failed 6 gates: ") as error:
        raise_if_failed(report)
    for failure in (
        "max_difference of dctnet-head/onnxruntime-swapped is",
        "psnr of dctnet-head/onnxruntime-narrow is",
    ):
        assert failure in str(error.value)
    assert "expected at most 0.1 %" in str(error.value)
    assert "onnxruntime-fp32" not in str(error.value)
    raise_if_failed(replace(report, gates=()))


def test_every_engine_is_timed_in_turns_with_the_original(report: Report) -> None:
    network = report.networks[0]
    assert network.latency_size == (32, 48)
    assert len(network.original.latencies_ms) == 3
    engine = _engine(report, "fp32").subject
    assert len(engine.latencies_ms) == 3
    ratios = [a / b for a, b in zip(network.original.latencies_ms, engine.latencies_ms, strict=True)]
    assert find(engine.measurements, "throughput_ratio") == sorted(ratios)[1]
    assert find(engine.measurements, "latency_p50") == sorted(engine.latencies_ms)[1]


def test_processes_are_measured_apart(report: Report) -> None:
    """TensorFlow's memory is the original's alone."""
    original = find(report.networks[0].original.measurements, "peak_rss")
    engine = _engine(report, "fp32").subject.measurements
    peak = find(engine, "peak_rss")
    assert original is not None
    assert peak is not None
    assert 300 < original
    assert 30 < peak < original / 2
    assert find(engine, "peak_rss_ratio") == pytest.approx(peak / original)


def test_an_engine_that_cannot_run_here_is_listed_with_why_and_its_plan(report: Report) -> None:
    engine = _engine(report, "planned")
    assert engine.subject.why_not_run == "there is no GPU"
    assert engine.planned[0].total_mib == 10
    assert {m.metric: m.value for m in engine.subject.measurements} == {"planned_memory/to-64": 10}


def test_every_size_is_reported_and_pictured_once_per_engine(report: Report) -> None:
    assert [(s.height, s.width) for s in _engine(report, "swapped").by_size] == [(32, 32), (24, 40)]
    assert [picture.subject.rpartition("-")[2] for picture in report.pictures] == ["fp32", "swapped", "narrow"]


def test_the_json_holds_what_the_report_holds(report: Report) -> None:
    assert Report.from_json(report.to_json()) == replace(report, pictures=())


def test_requests_that_cannot_be_met_are_refused_before_anything_starts(tmp_path: Path, photo: Path) -> None:
    bundle = write_bundle(tmp_path / "halve", "dctnet-head", {"fp32": halve()})
    with pytest.raises(PhotoError, match="needs at least one photo"):
        run_validation(bundle, {"dctnet-head": Artifact.of(photo)}, [], (), _OPTIONS)
    with pytest.raises(CheckpointError, match="no original to compare dctnet-head with"):
        run_validation(bundle, {}, [photo], (), _OPTIONS)
    with pytest.raises(CameoError, match="a gate names the metric 'accuracy', which is none of"):
        run_validation(bundle, {"dctnet-head": Artifact.of(photo)}, [photo], [Gate("accuracy", 1)], _OPTIONS)


def test_photos_that_cannot_be_read_are_left_out_and_named_unless_all_are(tmp_path: Path, photo: Path) -> None:
    torn, text = tmp_path / "torn.png", tmp_path / "notes.jpg"
    torn.write_bytes(photo.read_bytes()[:500])
    text.write_text("no photo")
    found, skipped = readable([torn, photo, text])
    assert list(found) == [str(photo)]
    assert [one.name for one in skipped] == ["torn.png", "notes.jpg"]
    with pytest.raises(PhotoError, match=r"none of 2 photos can be read: .*torn\.png.*notes\.jpg"):
        readable([torn, text])


def test_a_network_may_have_sizes_of_its_own() -> None:
    own = Sizes(((8, 8),), (8, 12))
    options = replace(_OPTIONS, by_network={"realesrnet-x2": own})
    assert options.sizes_of("realesrnet-x2") == own
    assert options.sizes_of("dctnet-head") == Sizes(((32, 32), (24, 40)), (32, 48))


def test_weights_of_something_else_are_told(tmp_path: Path, photo: Path) -> None:
    bundle = write_bundle(tmp_path / "halve", "dctnet-head", {"fp32": halve()})
    with pytest.raises(CheckpointError, match="dctnet-head/original failed while loading"):
        run_validation(bundle, {"dctnet-head": Artifact.of(photo)}, [photo], (), _OPTIONS)
