"""The whole flow on a bundle's engines against the same flow on its originals, each in a process of its own."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from cameo.artifact import Artifact, sha256_of, size_of
from cameo.bundle import Bundle, EngineEntry, Manifest, NetworkEntry, StoredFile
from cameo.colour import without_colour
from cameo.images import read_photo
from cameo.tensors import TensorSpec
from exporters.dctnet.export import exporter
from metrics.measurement import Gate, find
from metrics.timing import Rounds
from tests.support.frozen_graphs import write_small
from tests.validate.bundles import EDGE, swap_channels
from validate.bundle import ValidationOptions, run_validation
from validate.flow import FlowComparison
from validate.results import FlowResult

PHOTO = Path(__file__).resolve().parents[2] / "demo" / "photo.jpg"
NETWORKS = ("dctnet-background", "dctnet-head")
OPTIONS = ValidationOptions(((32, 32),), (32, 32), Rounds(least=1, most=1, seconds=0), timeout_s=120)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    file = write_small(tmp_path_factory.mktemp("weights") / "cartoon.pb")
    return dict.fromkeys(NETWORKS, file)


@pytest.fixture(scope="module")
def bundle(weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Both generators under a faithful engine and under one that gives the head BGR for RGB."""
    folder = tmp_path_factory.mktemp("bundle")
    exporter(NETWORKS[0]).run(weights[NETWORKS[0]], folder / "faithful.onnx")
    faithful = onnx.load(folder / "faithful.onnx")
    onnx.save(swap_channels(faithful), folder / "swapped.onnx")
    edges = [(TensorSpec(name, "uint8", EDGE),) for name in ("image", "result")]

    def entry(precision: str, file: str) -> EngineEntry:
        path = folder / file
        return EngineEntry("onnxruntime", precision, StoredFile(file, "onnx", sha256_of(path), size_of(path)))

    def network(name: str) -> NetworkEntry:
        broken = "swapped.onnx" if name == "dctnet-head" else "faithful.onnx"
        engines = (entry("fp32", "faithful.onnx"), entry("int8", broken))
        return NetworkEntry(name, edges[0], edges[1], engines[0].file, {}, engines)

    manifest = Manifest("test", "dctnet", {name: network(name) for name in NETWORKS}, {}, {})
    (folder / "bundle.json").write_text(manifest.to_json())
    return Bundle(folder)


@pytest.fixture(scope="module")
def compared(bundle: Bundle, weights: dict[str, Path], tmp_path_factory) -> tuple[FlowResult, FlowComparison]:
    comparison = FlowComparison(bundle, weights, OPTIONS)
    return comparison.run({str(PHOTO): read_photo(PHOTO)}, tmp_path_factory.mktemp("scratch")), comparison


def test_a_faithful_engine_makes_the_same_photo_and_a_broken_one_does_not(compared) -> None:
    result, _ = compared
    faithful, broken = (engine.subject for engine in result.engines)
    assert faithful.name == "flow/onnxruntime-fp32"
    assert find(faithful.measurements, "max_difference") <= 1
    assert find(faithful.measurements, "psnr") > 60
    assert find(broken.measurements, "psnr") < 45
    assert find(broken.measurements, "max_difference") > 1


def test_a_photo_without_colour_is_compared_as_any_other(
    bundle: Bundle, weights: dict[str, Path], tmp_path: Path, sessions_in_process: None
) -> None:
    result = FlowComparison(bundle, weights, OPTIONS).run({"grey": without_colour(read_photo(PHOTO))}, tmp_path)
    faithful = result.engines[0].subject
    assert find(faithful.measurements, "max_difference") <= 1


def test_the_face_is_cut_out_measured_and_pictured(compared) -> None:
    result, comparison = compared
    assert result.finder == "OpenCV's Haar cascades"
    faithful, broken = result.engines
    assert len(faithful.faces) == len(broken.faces) == 1
    assert faithful.faces[0].photo == str(PHOTO)
    assert 30 < faithful.faces[0].eye_distance_px < 60
    assert faithful.faces[0].fidelity["max_difference"] <= 1
    assert find(broken.subject.measurements, "psnr/face") < find(broken.subject.measurements, "psnr")
    assert [pair.subject for pair in comparison.faces] == ["flow/onnxruntime-fp32", "flow/onnxruntime-int8"]
    assert [picture.subject for picture in comparison.pictures] == [pair.subject for pair in comparison.faces]


def test_original_and_engines_are_timed_and_weighed_apart(compared) -> None:
    result, _ = compared
    assert result.latency_size == (512, 512)
    assert len(result.original.latencies_ms) == 1
    for engine in result.engines:
        assert find(engine.subject.measurements, "throughput_ratio") == pytest.approx(
            result.original.latencies_ms[0] / engine.subject.latencies_ms[0]
        )
        assert 0 < find(engine.subject.measurements, "peak_rss_ratio") < 1  # TensorFlow is the original's alone


def test_gates_of_the_flow_hold_for_it_alone_and_unreadable_photos_are_named(
    bundle: Bundle, weights: dict[str, Path], tmp_path: Path, sessions_in_process: None
) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(PHOTO.read_bytes()[:300])
    gates = [Gate("psnr", 45, network="flow"), Gate("max_difference/face", 2, network="flow", precision="fp32")]
    originals = {name: Artifact.of(path) for name, path in weights.items()}
    report = run_validation(bundle.folder, originals, [torn, PHOTO], gates, OPTIONS)
    assert [str(gate.measurement.subject) for gate in report.failures] == ["flow/onnxruntime-int8"]
    assert {gate.measurement.subject for gate in report.gates} == {"flow/onnxruntime-fp32", "flow/onnxruntime-int8"}
    assert [photo.name for photo in report.photos] == ["photo.jpg"]
    assert [photo.name for photo in report.skipped_photos] == ["torn.jpg"]
    assert "torn.jpg" in report.skipped_photos[0].why
    networks_only = run_validation(bundle.folder, originals, [PHOTO], gates, replace(OPTIONS, flow=False))
    assert networks_only.flow is None
    assert networks_only.unchecked_gates == tuple(gates)
