"""From weights to bundle: complete, cached, repaired, and never over somebody's files."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cameo
import exporters
from cameo.artifact import Artifact
from cameo.bundle import Bundle
from cameo.errors import (
    BundleError,
    CheckpointError,
    EngineUnavailable,
    OutputError,
    PhotoError,
    RequestError,
)
from engines import engine
from exporters import model
from exporters.family import WeightFiles
from pipeline.build import build
from pipeline.build_network import BuildOptions, NetworkBuild
from pipeline.calibration import DEMO
from pipeline.recipe_stages import weights_in
from pipeline.store import Store
from tests.support import fill, frozen_graphs
from tests.support.filled_networks import filled, save_checkpoint
from validate.bundle import run_validation

OPTIONS = BuildOptions(engines=("onnxruntime",))

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("weights")
    frozen_graphs.write_small(folder / "cartoon_h.pb")
    frozen_graphs.write_small(folder / "cartoon_bg.pb", "bg/")
    return folder


@pytest.fixture(scope="module")
def built(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "dctnet"
    assert build(model("dctnet"), weights, out, OPTIONS, print)
    return out


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "bundle")


def test_pruned_networks_join_as_a_mode(weights: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, precisions=("fp32",), prune=0.3)
    assert build(model("dctnet"), weights, tmp_path / "pruned", options, print)
    assert not build(model("dctnet"), weights, tmp_path / "pruned", options, print)
    bundle = Bundle(tmp_path / "pruned")
    for network in bundle.networks.values():
        whole, pruned = network.engines
        assert (whole.mode, pruned.mode) == ("quality", "balanced")
        assert pruned.file.bytes < 0.7 * whole.file.bytes
        assert json.loads(bundle.verified(network.converted["pruned"].record).read_text())["pruned"] == 0.3
    with cameo.load(tmp_path / "pruned", mode="balanced") as cartoonize:
        assert {entry.mode for entry in cartoonize.engines.values()} == {"balanced"}
        cartoonize(np.zeros((64, 64, 3), np.uint8))


def test_another_familys_enlarger_joins_where_its_file_is(weights: Path, tmp_path: Path) -> None:
    from exporters.realesrnet.network import RRDBNet

    shutil.copytree(weights, folder := tmp_path / "weights")
    lines: list[str] = []
    options = replace(OPTIONS, precisions=("fp32",))
    assert build(model("dctnet"), folder, tmp_path / "without", options, lines.append)
    assert "no realesrnet_x2.pth: results are enlarged to the photo's size by interpolation (no --sr)" in lines
    engines = [line.split(" in ")[0] for line in lines if line.startswith("built build-")]
    assert engines == [f"built build-onnxruntime of dctnet-{part} fp32" for part in ("background", "head")]
    assert "no alpha.jpg: heads are pasted through an ellipse with a soft rim instead" in lines
    with (
        cameo.load(tmp_path / "without") as cartoonize,
        pytest.raises(RequestError, match="no network realesrnet-x1, -x2 or -x4, expected one for the option `sr`"),
    ):
        cartoonize(np.zeros((64, 64, 3), np.uint8), sr=True)
    save_checkpoint(filled(RRDBNet(2, 1)), folder / "realesrnet_x2.pth")
    assert build(model("dctnet"), folder, tmp_path / "with", options, lines.append)
    photo = fill.smooth_u8("enlarged", 40, 1500)
    with cameo.load(tmp_path / "with", size_rule="long-1024") as cartoonize:
        usual, enlarged = (cartoonize.run(photo, cartoonize.request(sr=sr)).image for sr in (False, True))
    assert usual.shape == enlarged.shape == photo.shape
    assert (usual != enlarged).any()


def test_students_and_learned_int8_join_as_modes(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(fill.smooth_u8(name, 70, 90)).save(tmp_path / "photos" / f"{name}.png")
    options = replace(OPTIONS, precisions=("fp32", "int8"), fast=True, recover_steps=2, calibration=tmp_path / "photos")
    lines: list[str] = []
    assert build(model("dctnet"), weights, tmp_path / "lean", options, lines.append)
    assert sum(" (2 steps)" in line for line in lines) == 4  # two networks, each as student and for INT8
    bundle = Bundle(tmp_path / "lean")
    for network in bundle.networks.values():
        engines = {(entry.mode, entry.precision): entry.file for entry in network.engines}
        assert set(engines) == {("quality", "fp32"), ("balanced", "int8"), ("fast", "fp32")}
        assert engines["balanced", "int8"].sha256 == network.converted["qat.int8"].onnx.sha256
        assert engines["fast", "fp32"].sha256 == network.converted["student"].onnx.sha256
        assert "steps" in json.loads(bundle.verified(network.converted["qat"].record).read_text())
        assert json.loads(bundle.verified(network.converted["student"].record).read_text())["separable"]
    with cameo.load(tmp_path / "lean", mode="fast") as cartoonize:
        assert {entry.mode for entry in cartoonize.engines.values()} == {"fast"}
        cartoonize(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"prune": 0.3, "recover_steps": 9}, RequestError, "recovery learns from photos and got none"),
        ({"recover_steps": 9}, RequestError, "nothing to recover: name --prune=0.3, --fast or --precision=int8"),
        ({"fast": True}, RequestError, "a student that has not learned draws nothing: name the steps"),
    ],
)
def test_recovery_needs_pruning_and_photos(
    changed: dict[str, float], error: type[Exception], said: str, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        build(model("dctnet"), weights, tmp_path / "bundle", replace(OPTIONS, **changed), print)  # type: ignore[arg-type]
    assert not (tmp_path / "bundle").exists()


def test_a_second_build_does_nothing(weights: Path, built: Path) -> None:
    lines: list[str] = []
    assert not build(model("dctnet"), weights, built, OPTIONS, lines.append)
    assert lines[-1].startswith("0 stages built")


def test_the_bundle_holds_what_it_lists(built: Path) -> None:
    bundle = Bundle(built)
    listed = {file.path for network in bundle.networks.values() for file in network.files}
    listed |= {file.path for file in bundle.manifest.assets.values()}
    present = {str(p.relative_to(built)) for p in built.rglob("*") if p.is_file()}
    assert present == listed | {"bundle.json"}
    assert set(bundle.networks) == {"dctnet-background", "dctnet-head"}
    assert "networks/dctnet-head.fp16.precision.json" in listed


def test_precisions_come_from_graphs_of_their_own(built: Path) -> None:
    network = Bundle(built).network("dctnet-head")
    files = {(entry.engine, entry.precision): entry.file for entry in network.engines}
    assert set(files) == {("onnxruntime", "fp32"), ("onnxruntime", "fp16")}
    assert files["onnxruntime", "fp32"].sha256 == network.onnx.sha256
    assert files["onnxruntime", "fp16"].sha256 == network.converted["fp16"].onnx.sha256 != network.onnx.sha256
    record = json.loads((built / network.converted["fp16"].record.path).read_text())
    assert record["photos"]["used"] == sorted(path.name for path in DEMO.glob("*.jpg"))
    assert record["gate"]["limit"] == 50


def test_only_the_precisions_asked_for(weights: Path, tmp_path: Path) -> None:
    options = BuildOptions(engines=("onnxruntime",), precisions=("fp32",))
    build(model("dctnet"), weights, tmp_path / "out", options, print)
    network = Bundle(tmp_path / "out").network("dctnet-head")
    assert [(entry.precision, dict(network.converted)) for entry in network.engines] == [("fp32", {})]
    with pytest.raises(RequestError, match="dctnet is not built in 'fp8': choose from fp32, bf16, fp16"):
        build(model("dctnet"), weights, tmp_path / "out", BuildOptions(precisions=("fp8",)), print)
    options = BuildOptions(engines=("openvino",), precisions=("fp16",))
    with pytest.raises(EngineUnavailable, match="no engine in fp16 among openvino: leave out"):
        build(model("dctnet"), weights, tmp_path / "out", options, print)


def test_a_damaged_picture_of_the_authors_is_seen_before_anything_is_built(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, folder := tmp_path / "weights")
    (folder / "alpha.jpg").write_text("no picture")
    lines: list[str] = []
    with pytest.raises(CheckpointError, match=r"alpha\.jpg is not an image .*, or remove it for what stands in"):
        build(model("dctnet"), folder, tmp_path / "out", OPTIONS, lines.append)
    assert not any(line.startswith("built") for line in lines)
    assert not (tmp_path / "out").exists()


def test_other_calibration_photos_convert_anew(weights: Path, built: Path, tmp_path: Path) -> None:
    Image.fromarray(fill.smooth_u8("photo", 90, 70)).save(tmp_path / "own.png")
    out = shutil.copytree(built.parent, tmp_path / "build") / built.name
    lines: list[str] = []
    assert build(model("dctnet"), weights, out, replace(OPTIONS, calibration=tmp_path), lines.append)
    assert sum(line.startswith("built convert-to-fp16") for line in lines) == 2
    record = json.loads((out / "networks/dctnet-head.fp16.precision.json").read_text())
    assert record["photos"]["used"] == ["own.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotoError, match="empty holds no photos, .*name another"):
        build(model("dctnet"), weights, out, replace(OPTIONS, calibration=tmp_path / "empty"), print)


def test_a_lost_record_is_made_again(weights: Path, built: Path, tmp_path: Path) -> None:
    out = shutil.copytree(built.parent, tmp_path / "build") / built.name
    next((out.parent / ".store").glob("convert-to-fp16-*/precision.json")).unlink()
    lines: list[str] = []
    build(model("dctnet"), weights, out, OPTIONS, lines.append)
    assert [line.split(" of dctnet-")[0] for line in lines if line.startswith("built")] == ["built convert-to-fp16"]


def test_fp16_does_not_run_on_the_cpu(built: Path) -> None:
    with pytest.raises(EngineUnavailable, match="CPUs compute FP16 graphs in FP32"):
        cameo.load(built, precision="fp16")
    with pytest.raises(EngineUnavailable, match="onnxruntime fp16: it runs on cuda, not on cpu"):
        cameo.load(built, precision="fp16", device="cpu")


def test_a_bundle_runs(built: Path) -> None:
    photo = fill.smooth_u8("photo", 90, 70)
    with cameo.load(built) as cartoonize:
        assert np.asarray(cartoonize(photo)).shape == photo.shape
        assert "cascades stand in" in cartoonize.describe()


@pytest.mark.parametrize("member", ["engines/dctnet-head.onnxruntime.onnx", "bundle.json"])
def test_a_changed_byte_is_noticed(bundle: Path, member: str) -> None:
    path = bundle / member
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="changed since|is damaged"):
        cameo.load(bundle)


def test_a_missing_file_is_noticed(bundle: Path) -> None:
    (bundle / "engines/dctnet-head.onnxruntime.onnx").unlink()
    with pytest.raises(BundleError, match="is missing from the bundle"):
        cameo.load(bundle)


def test_a_copy_without_the_graphs_serves_and_says_that_it_cannot_be_validated(
    bundle: Path, weights: Path, tmp_path: Path
) -> None:
    photo = fill.smooth_u8("photo", 90, 70)
    with cameo.load(bundle) as cartoonize:
        whole = np.asarray(cartoonize(photo))
    shutil.rmtree(bundle / "networks")
    with cameo.load(bundle) as cartoonize:
        assert np.array_equal(np.asarray(cartoonize(photo)), whole)
    files = {"dctnet-head": "cartoon_h.pb", "dctnet-background": "cartoon_bg.pb"}
    originals = {name: Artifact.of(weights / file) for name, file in files.items()}
    with pytest.raises(BundleError, match="has no networks/dctnet-.*precision.json, which validation reads"):
        run_validation(bundle, originals, [DEMO / "photo.jpg"], ())


def test_a_newer_format_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(BundleError, match="has bundle format 99"):
        Bundle(bundle)


def test_a_damaged_bundle_is_repaired_by_the_next_build(weights: Path, built: Path) -> None:
    victim = built / "networks/dctnet-head.onnx"
    victim.write_bytes(b"broken")
    assert build(model("dctnet"), weights, built, OPTIONS, print)
    cameo.load(built).close()
    assert victim.stat().st_size > 6


def test_a_kill_between_the_two_renames_is_repaired_by_the_next_build(weights: Path, built: Path) -> None:
    no_such_pid = 2**22 + 1  # above what Linux hands out
    built.rename(built.parent / f".{built.name}.previous-{no_such_pid}")
    (built.parent / f".{built.name}.work-{no_such_pid}").mkdir()
    assert build(model("dctnet"), weights, built, OPTIONS, print)
    cameo.load(built).close()
    assert not list(built.parent.glob(f".{built.name}.*-*"))


def test_somebody_elses_folder_is_left_alone(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="is no bundle.*nothing was changed"):
        build(model("dctnet"), weights, tmp_path, OPTIONS, print)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_missing_weights_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with pytest.raises(CheckpointError, match="has no cartoon_bg.pb or cartoon_anime_bg.pb"):
        build(model("dctnet"), tmp_path / "weights", tmp_path / "out", OPTIONS, print)
    with pytest.raises(CheckpointError, match="there is no folder"):
        build(model("dctnet"), tmp_path / "absent", tmp_path / "out", OPTIONS, print)
    assert not (tmp_path / "out").exists()


def test_bad_weights_leave_no_bundle(weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "weights")
    (folder / "cartoon_h.pb").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cartoon_h.pb is empty"):
        build(model("dctnet"), folder, tmp_path / "out", OPTIONS, print)
    assert not (tmp_path / "out").exists()


def test_an_engine_that_cannot_be_built_here_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine("openvino"), "why_not_buildable", lambda: "no such luck")
    with pytest.raises(EngineUnavailable, match="'openvino' cannot be built here: no such luck"):
        build(model("dctnet"), weights, tmp_path / "out", BuildOptions(engines=("openvino",)), print)


def test_an_engine_that_the_bundle_lacks_is_refused(built: Path) -> None:
    with pytest.raises(EngineUnavailable, match="the bundle has no engine 'openvino' for dctnet-background"):
        cameo.load(built, engine="openvino")


def test_commands_end_with_one_sentence(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)

    failed = run("pipeline", "build", "dctnet", "--weights", str(tmp_path / "no"), "--out", str(tmp_path / "out"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: there is no folder")
    assert failed.stderr.count("\n") == 1
    unknown = run("pipeline", "build", "nonsense", "--weights", ".", "--out", str(tmp_path / "out"))
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: there is no model 'nonsense': choose one of dctnet")
    assert run("pipeline", "build").returncode == 2
    debug = run("cameo.commands", "info", str(tmp_path), "--debug")
    assert "Traceback" in debug.stderr
    assert "Traceback" not in run("cameo.commands", "info", str(tmp_path)).stderr


def run_cameo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cameo.commands", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_bad_photo_does_not_stop_the_others(built: Path, tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        Image.new("RGB", (32, 24), "teal").save(tmp_path / name)
    (tmp_path / "b.png").write_text("not a picture")
    photos = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    done = run_cameo("run", built, *photos, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "c.png"}
    assert done.stderr.endswith("error: 1 of 3 pictures could not be made, see above; the others are done\n")


def test_a_photo_is_never_overwritten(built: Path, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (32, 24), "teal").save(photo)
    before = photo.read_bytes()
    for out in (photo, tmp_path):
        done = run_cameo("run", built, photo, "-o", out)
        assert (done.returncode, photo.read_bytes()) == (1, before)
        assert "would overwrite the photo" in done.stderr


def test_a_model_says_how_a_companions_file_is_called_in_its_folder(tmp_path: Path) -> None:
    """Elsewhere GPEN may be pytorch_model.pt, which here is another network's."""
    renamed = replace(model("gpen-bfr-1024"), files={"gpen-bfr-1024": WeightFiles.one("faceEnhance/GPEN.pth")})
    (tmp_path / "weights" / "faceEnhance").mkdir(parents=True)
    (tmp_path / "weights" / "pytorch_model.pt").write_bytes(b"another network")
    assert weights_in(tmp_path / "weights", "gpen-bfr-1024") is not None
    assert weights_in(tmp_path / "weights", "gpen-bfr-1024", renamed) is None
    with pytest.raises(CheckpointError, match="has no faceEnhance/GPEN.pth, which gpen-bfr-1024 needs"):
        build(renamed, tmp_path / "weights", tmp_path / "out", OPTIONS, print)
    (tmp_path / "weights" / "faceEnhance" / "GPEN.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="faceEnhance/GPEN.pth"):
        build(renamed, tmp_path / "weights", tmp_path / "out", OPTIONS, print)


def test_a_precision_that_is_withheld_is_not_built_and_it_is_said_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    recipe = exporters.recipe_of("fusion-generator")
    options = BuildOptions(precisions=("fp32", "int8"))
    asked = NetworkBuild(
        recipe, Artifact(Path("w.pt"), "pt", "0"), ("openvino",), options, Store(tmp_path), said.append
    )
    monkeypatch.setattr(NetworkBuild, "_lighter", {})
    monkeypatch.setattr(NetworkBuild, "_part", lambda build, form, *of: build._chosen(form)[0])
    assert list(asked.parts(None)) == [("fp32",)]  # type: ignore[arg-type]
    assert len(said) == 1
    assert said[0].startswith("fusion-generator: not built in int8: ")
