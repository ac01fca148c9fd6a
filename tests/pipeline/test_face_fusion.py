"""Face fusion end to end on a folder of narrow weights: built, validated, fused by the command, served as a form."""

from __future__ import annotations

import html
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import cameo
from cameo.bundle import Bundle
from cameo.commands import main
from cameo.errors import CheckpointError, PhotoError
from cameo.images import read_photo
from exporters import model
from metrics.measurement import find
from metrics.timing import Rounds
from pipeline.build import _weights, build
from pipeline.build_network import BuildOptions
from pipeline.recipe_stages import exporter_of, weights_in
from tests.support import fill
from tests.support.in_process import SessionInProcess, sessions_in_process
from tests.support.served import photo_server
from validate.bundle import ValidationOptions, run_validation
from validate.flow import FlowComparison
from validate.page import render
from validate.results import Report

torch = pytest.importorskip("torch")
pytest.importorskip("scipy.io")

from tests.support import fusion_weights  # noqa: E402

PHOTO = Path(__file__).resolve().parents[2] / "demo" / "photo.jpg"
OPTIONS = BuildOptions(engines=("onnxruntime",), precisions=("fp32",))

STAGES = (
    "faces points",
    "curricularface image",
    "curricularface embedding",
    "face-recon-3d coefficients",
    "face-recon-3d keypoints_fused",
    "fusion-generator result",
    "gpen-bfr-1024 image",
    "gpen-bfr-1024 result",
    "flow result",
)

MEASURED = ValidationOptions(((256, 256),), (256, 256), Rounds(least=1, most=1, seconds=0), timeout_s=120)

pytestmark = [pytest.mark.usefixtures("in_process"), pytest.mark.slow]


@pytest.fixture(scope="module")
def weights(narrow_fusion: Path) -> Path:
    return narrow_fusion / "weights"


@pytest.fixture(scope="module")
def bundle(narrow_fusion: Path) -> Path:
    return narrow_fusion / "bundle"


@pytest.fixture(scope="module")
def report(bundle: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The demo's photo, and one that shows nobody."""
    nobody = tmp_path_factory.mktemp("photos") / "nobody.png"
    Image.fromarray(fill.smooth_u8("nobody", 200, 200)).save(nobody)
    known = model("face-fusion")
    found = {name: weights_in(weights, name, known) for name in Bundle(bundle).networks}
    originals = {name: one for name, one in found.items() if one is not None}
    with sessions_in_process():
        return run_validation(bundle, originals, [nobody, PHOTO], known.flow_gates, MEASURED)


def test_the_bundle_holds_the_networks_that_the_folder_has(bundle: Path) -> None:
    networks = {"fusion-generator", "curricularface", "face-recon-3d", "gpen-bfr-1024"}
    assert set(Bundle(bundle).networks) == networks
    assert set(Bundle(bundle).manifest.assets) == {"alpha"}


def test_the_flow_is_compared_stage_by_stage_and_holds_its_gates(report: Report) -> None:
    assert report.passed, report.failures
    assert report.flow is not None
    (engine,) = report.flow.ran
    stages = {f"{stage.network} {stage.edge}": stage for stage in engine.stages}
    assert [name for name in stages if name in STAGES] == list(STAGES)
    assert not any(stage.said or stage.first_off for stage in engine.stages)
    assert stages["faces points"].rows == stages["face-recon-3d coefficients"].rows == 2
    assert max(stage.error for stage in engine.stages) < 1e-3


def test_a_photo_without_a_face_is_said_and_stops_nothing(report: Report) -> None:
    (skipped,) = report.skipped_photos
    assert skipped.name == "nobody.png"
    assert skipped.why.startswith("nobody.png and photo.jpg: No face was found in the photo 'template'")
    assert report.flow is not None
    assert report.flow.first == {"template": "photo.jpg", "face": "photo.jpg"}


def test_an_engine_that_finds_no_face_has_lost_it(
    report: Report,
    bundle: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sessions_in_process: None,
) -> None:
    run = SessionInProcess.run

    def blind(session: SessionInProcess, feeds: Path) -> dict[str, Any]:
        if session.spec.subject == "flow/onnxruntime-fp32":
            raise PhotoError("no face was found")
        return run(session, feeds)

    monkeypatch.setattr(SessionInProcess, "run", blind)
    found = {name: weights_in(weights, name, model("face-fusion")) for name in Bundle(bundle).networks}
    originals = {name: one.path for name, one in found.items() if one is not None}
    flow = FlowComparison(Bundle(bundle), originals, MEASURED).run({str(PHOTO): read_photo(PHOTO)}, tmp_path)
    (engine,) = flow.ran
    assert find(engine.subject.measurements, "faces_lost") == 1
    assert find(engine.subject.measurements, "psnr") is None
    assert not engine.subject.latencies_ms
    assert not engine.stages
    page = render(replace(report, flow=flow))
    assert "Likeness by the flow's own recogniser (to the template)" in html.unescape(page)
    assert ">0.0 ms<" not in page, "what was not timed has no bar"


def test_originals_of_several_files_are_those_that_the_bundle_was_built_from(report: Report) -> None:
    for network in report.networks:
        assert network.original_sha256 == network.source["sha256"], network.name


def test_whose_face_it_is_is_measured_of_original_and_engine(report: Report) -> None:
    assert report.flow is not None
    original, engine = report.flow.original.measurements, report.flow.ran[0].subject.measurements
    for about in ("to-face", "to-template"):
        cosine = find(original, f"identity/{about}")
        assert cosine is not None
        assert -1 < cosine < 0.99, "the face was drawn anew"
        assert find(engine, f"identity/{about}") == pytest.approx(cosine, abs=1e-3)
        assert find(engine, f"identity_shift/{about}") < 1e-3


def test_the_command_fuses_and_its_picture_says_how(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    out = tmp_path / "out.png"
    command = ["fuse", str(PHOTO), str(PHOTO), "-o", str(out), "--bundle", str(bundle)]
    assert main(command) != 0
    assert not out.exists()
    assert "--consent" in capsys.readouterr().err
    assert main([*command, "--consent"]) == 0
    made, template = read_photo(out), read_photo(PHOTO)
    assert made.shape == template.shape
    changed = (made != template).any(axis=2)
    assert 0.02 < changed.mean() < 0.6, "the face alone"
    assert not changed[-20:].any()
    assert main(["verify", str(out)]) == 0


def test_the_server_fuses_a_form(bundle: Path) -> None:
    files = {name: PHOTO.read_bytes() for name in ("template", "face")}
    with photo_server(bundle) as server:
        client = TestClient(server.app)
        assert client.post("/run", files=files).status_code == 400
        answer = client.post("/run", files=files, data={"consent": "yes"})
    assert answer.status_code == 200
    with cameo.load(bundle, consent=True) as fuse:
        expected = np.asarray(fuse(PHOTO, PHOTO))
    np.testing.assert_array_equal(read_photo(answer.content), expected)


REQUIRED = (
    fusion_weights.GENERATOR,
    fusion_weights.RECOGNISER,
    fusion_weights.SHAPES,
    fusion_weights.FACE_MODEL,
)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_named(name: str, weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "weights")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}, which .* needs: a face-fusion folder holds"):
        build(model("face-fusion"), folder, tmp_path / "out", OPTIONS, print)
    assert not (tmp_path / "out").exists()


def test_what_may_be_missing_is_named_with_what_stands_in(weights: Path) -> None:
    lines: list[str] = []
    found = _weights(model("face-fusion"), weights, lines.append)
    assert len(found) == 4
    assert any("no detector.pb: OpenCV's bundled face cascades" in line for line in lines)
    assert any("no ParseNet-latest.pth: what covers the template's face cannot be kept" in line for line in lines)


@pytest.mark.parametrize("name", [*REQUIRED[:3], fusion_weights.ENHANCER])
def test_a_checkpoint_of_something_else_is_named(name: str, tmp_path: Path) -> None:
    folder = fusion_weights.write_folder(tmp_path / "weights")
    torch.save({"conv.weight": torch.ones(3, 3, 1, 1)}, folder / name)
    with pytest.raises(CheckpointError, match=Path(name).name):
        _export(folder, name, tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"idBase": None}, r"of idBase, expected numbers \[270, 80\], got nothing"),
        ({"exBase": np.zeros((270, 29), np.float32)}, r"of exBase, .*\[270, 64\], got float32 \[270, 29\]"),
        ({"keypoints": np.ones((1, 17))}, r"of keypoints, .*\[1, 68\], got float64 \[1, 17\]"),
    ],
)
def test_a_face_model_of_other_shapes_is_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = fusion_weights.write_shapes(tmp_path / "weights")
    fusion_weights.write_face_model(folder, **changes)
    with pytest.raises(CheckpointError, match=rf"BFM_model_front\.mat does not fit face-recon-3d: {said}"):
        _export(folder, fusion_weights.FACE_MODEL, tmp_path)


NETWORKS = {
    fusion_weights.GENERATOR: "fusion-generator",
    fusion_weights.RECOGNISER: "curricularface",
    fusion_weights.SHAPES: "face-recon-3d",
    fusion_weights.FACE_MODEL: "face-recon-3d",
    fusion_weights.ENHANCER: "gpen-bfr-1024",
}


def _export(folder: Path, name: str, scratch: Path) -> None:
    """Export the network that reads the file, from the folder as a build finds it."""
    network = NETWORKS[name]
    found = weights_in(folder, network, model("face-fusion"))
    assert found is not None
    exporter_of(network).run(found.path, scratch / "model.onnx")
