"""`python -m pipeline prune`: from a frozen graph to a narrower one, with its four figures."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import pipeline.prune as command
from cameo.errors import CameoError, CheckpointError, OutputError, PhotoError, RequestError
from cameo.images import write_image
from compress.prune_channels import PruneChannels
from compress.teaching import Photos, Teaching
from exporters import trainable
from metrics.examples import Examples
from pipeline.child import stage_command
from pipeline.prune import Request, latencies_ms, prune
from tests.engines.networks import write_masked
from tests.support import frozen_graphs

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

NETWORK = "dctnet-head"
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return frozen_graphs.write_small(tmp_path / "whole.pb")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        image = np.random.default_rng(index).integers(0, 256, (8, 12, 3), np.uint8)
        write_image(folder / f"{index}.png", image.repeat(16, 0).repeat(16, 1))
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


def test_a_pruned_checkpoint_and_what_it_saves(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ROUNDS", 1)
    request = Request(NETWORK, 0.3, ("blocks=0.5",), multiple=4, photos=photos, recover_steps=2)
    said: list[str] = []
    lines = prune(request, weights, tmp_path / "narrow.pb", said.append)
    assert lines[0] == "left out: " + lines[0].partition(": ")[2]
    assert "broken.jpg" in lines[0]
    for what, least, most in (("parameters", 0.1, 0.6), ("MACs at 960x720", 0.1, 0.6), ("planned memory", 0.3, 0.95)):
        line = next(line for line in lines if line.startswith(what))
        if "not measured" not in line:
            assert least < float(line.rpartition("(")[2].split()[0]) < most, line
    assert any(line.startswith("latency at 960x720, ONNX Runtime: ") for line in lines)
    assert "against the original on held-out photos (2 steps)" in lines[-1]
    assert any(line.startswith("built prune-channels") for line in said)

    from exporters.dctnet.frozen_form import read_variables

    assert read_variables(tmp_path / "narrow.pb")["generator/block_0/conv1/weights"].shape == (3, 3, 16, 20)
    said.clear()
    prune(request, weights, tmp_path / "narrow.pb", said.append)
    assert not said  # every stage was in the store


def test_a_separable_one_is_a_student(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "costs", lambda *arguments: [])
    said: list[str] = []
    prune(Request(NETWORK, 0, separable=True), weights, tmp_path / "student.pb", said.append)
    assert any(line.startswith("built make-student") for line in said)

    from exporters.dctnet.frozen_form import SEPARABLE_LAYERS, read_variables, separable_layers

    assert separable_layers(read_variables(tmp_path / "student.pb")) == set(SEPARABLE_LAYERS)


def test_without_photos_norms_decide_and_fidelity_is_not_claimed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "costs", lambda *arguments: [])
    assert prune(Request(NETWORK, 0.3), weights, tmp_path / "narrow.pb", lambda line: None) == [
        "fidelity: not measured, because no photos were given (--photos)"
    ]


@pytest.mark.parametrize(
    ("request_", "error", "match"),
    [
        (Request(NETWORK, 0.99), CameoError, "would leave full empty"),
        (Request(NETWORK, 0.3, ("blocks",)), CameoError, "--stage=blocks: expected GROUP=RATIO"),
        (Request(NETWORK, 0.3, recover_steps=5), RequestError, "need photos and got none"),
        (Request(NETWORK, 0.3, recover_steps=-5), CameoError, "--recover-steps=-5: expected 0"),
        (Request(NETWORK, 0.3, importance="luck"), CameoError, "no importance is called 'luck'"),
        (Request("dctnet-detector", 0.3), CheckpointError, "dctnet-detector cannot be pruned"),
        (Request(NETWORK, 0.3, photos=Path("nowhere")), PhotoError, "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_written(
    request_: Request, error: type[CameoError], match: str, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        prune(request_, weights, tmp_path / "narrow.pb", lambda line: None)
    assert not (tmp_path / "narrow.pb").exists()


def test_wrong_paths_are_told(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file .*none.pb"):
        prune(Request(NETWORK, 0.3), tmp_path / "none.pb", tmp_path / "narrow.pb", lambda line: None)
    with pytest.raises(OutputError, match=r"must end in .pb"):
        prune(Request(NETWORK, 0.3), weights, tmp_path / "narrow.pth", lambda line: None)
    with pytest.raises(OutputError, match="there is no folder"):
        prune(Request(NETWORK, 0.3), weights, tmp_path / "none" / "narrow.pb", lambda line: None)


IN_SMALL_STEPS = """
import sys, compress.teaching, pipeline.child
compress.teaching._BATCH_PIXELS = 32 * 32
sys.exit(pipeline.child.main(*sys.argv[1:]))
"""


def test_a_run_that_was_killed_goes_on(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out, checkpoint = tmp_path / "narrow.pb", tmp_path / "recovering" / "checkpoint.pt"
    learning = Teaching(Photos.of(photos), 300, patch=32, checkpoints=checkpoint.parent)
    stage = PruneChannels(trainable(NETWORK), 0.3, teaching=learning)
    program = [sys.executable, "-c", IN_SMALL_STEPS, *stage_command(stage, weights, out)[3:]]
    run = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not checkpoint.exists():
        assert run.poll() is None
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert not out.exists()
    monkeypatch.setattr("compress.teaching._BATCH_PIXELS", 32 * 32)
    with caplog.at_level("INFO"):
        stage.run(weights, out)
    assert re.search("resuming at step [12]00 of 300", caplog.text)
    assert out.exists()


def test_networks_of_several_inputs_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("masked_examples")
    mask = np.ones((1, 16, 24, 1), np.float32)
    module.examples = lambda network, inputs, photos: ({"mask": mask, "image": photo[None]} for photo in photos)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "masked_examples", module)
    graph = write_masked(tmp_path / "masked.onnx", ["N", "H", "W", 1])
    assert min(latencies_ms(Examples("masked", "masked_examples"), [graph, graph], (16, 24))) > 0
