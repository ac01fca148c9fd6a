"""--part from the command line to the bundle: the averaged weights and a word about it, or those that were named."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner, Result

from cameo.bundle import Bundle
from cameo.errors import CheckpointError
from exporters import recipe_of
from exporters.recipe import Model
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.cli import app
from pipeline.recipe_stages import exporter_of
from tests.support import fill, frozen_graphs
from tests.support.filled_networks import filled
from validate.remote import Spec
from validate.worker import open_session

torch = pytest.importorskip("torch")

from exporters.realesrnet.network import RRDBNet  # noqa: E402

NAME = "realesrnet-x2"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = filled(RRDBNet(2, 1)).state_dict()
    averaged = {key: 0.75 * tensor for key, tensor in raw.items()}
    path = tmp_path_factory.mktemp("weights") / "realesrnet_x2.pth"
    torch.save({"state_dict": raw, "ema_state_dict": averaged}, path)
    return path


@pytest.fixture
def without_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports alone: what passes do to a graph takes longer, and is tested elsewhere."""
    monkeypatch.setattr("exporters.recipe_of", lambda name: replace(recipe_of(name), passes=()))


def export(weights: Path, out: Path, *options: str, network: str = NAME) -> Result:
    return CliRunner().invoke(app, ["export", network, "--weights", str(weights), "--out", str(out), *options])


def numbers(graph: Path) -> Any:
    tensors = onnx.load(graph).graph.initializer
    return {tensor.name: tensor.raw_data for tensor in tensors if tensor.data_type == onnx.TensorProto.FLOAT}


@pytest.mark.usefixtures("without_passes", "in_process")
def test_export_takes_the_averaged_weights_and_says_so_even_when_nothing_is_built(
    weights: Path, tmp_path: Path
) -> None:
    said = "the averaged weights 'ema_state_dict' are taken, not 'state_dict' (--part chooses)"
    for _ in range(2):
        result = export(weights, tmp_path / "ours.onnx")
        assert result.exit_code == 0, result.output
        assert result.output.count(said) == 1
    raw = export(weights, tmp_path / "raw.onnx", "--part", "state_dict")
    assert said not in raw.output
    ours, theirs = numbers(tmp_path / "ours.onnx"), numbers(tmp_path / "raw.onnx")
    assert ours.keys() == theirs.keys()
    assert ours != theirs


@pytest.mark.usefixtures("without_passes", "in_process")
def test_a_bundle_knows_its_part(weights: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    short = Model("short", "gpen", (NAME,))
    options = BuildOptions(engines=("onnxruntime",), precisions=("fp32",))
    build(short, weights.parent, tmp_path / "averaged", options, lines.append)
    assert sum("the averaged weights 'ema_state_dict' are taken" in line for line in lines) == 1
    build(short, weights.parent, tmp_path / "raw", replace(options, parts={NAME: "state_dict"}), lines.append)
    averaged, raw = (Bundle(tmp_path / name).network(NAME) for name in ("averaged", "raw"))
    assert averaged.onnx.sha256 != raw.onnx.sha256
    assert "part" not in averaged.source
    assert raw.source["part"] == "state_dict"


def test_the_original_is_of_the_same_part(weights: Path, tmp_path: Path) -> None:
    spec = Spec("original", NAME, weights=str(weights))
    image = {"image": fill.smooth_u8("parts/photo", 16, 24)[None]}
    torch.save(torch.load(weights)["state_dict"], tmp_path / "raw.pth")
    results = []
    for one in (spec, replace(spec, parts={NAME: "state_dict"}), replace(spec, weights=str(tmp_path / "raw.pth"))):
        with open_session(asdict(one)) as original:
            results.append(original.run(image)["result"])
    assert (results[1] == results[2]).all()
    assert (results[0] != results[1]).any()


def test_a_build_names_the_network_of_a_part(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    command = ["build", "dctnet", "--weights", str(tmp_path / "weights"), "--out", str(tmp_path / "out"), "--part"]
    for part, match in (
        ("g_ema", "--part=g_ema: expected NETWORK=NAME"),
        ("parsenet=g", "dctnet has no network 'parsenet': --part names one of dctnet-"),
    ):
        result = CliRunner().invoke(app, [*command, part])
        assert isinstance(result.exception, CheckpointError)
        assert match in str(result.exception)


def test_a_frozen_graph_has_no_parts(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    source = frozen_graphs.write_small(tmp_path / "cartoon_h.pb")
    result = export(source, tmp_path / "out.onnx", "--part", "ema", network="dctnet-head")
    assert isinstance(result.exception, CheckpointError)
    assert "dctnet-head is a frozen graph, which has no parts: leave out --part ema" in str(result.exception)
    command = ["prune", "dctnet-head", "--weights", str(source), "--out", str(tmp_path / "out.pb"), "--ratio", "0.3"]
    result = CliRunner().invoke(app, [*command, "--part", "ema"])
    assert "which has no parts" in str(result.exception)


def test_the_part_is_in_the_exporters_key() -> None:
    from pipeline.fingerprint import stage_key

    keys = {stage_key(exporter_of(NAME, part), "") for part in ("", "g_ema", "g")}
    assert len(keys) == 3
