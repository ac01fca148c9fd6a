"""What cannot work is refused before any work is done, in one sentence and in the words of the door."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cameo.errors import CameoError, CheckpointError, EngineUnavailable, PhotoError, RequestError
from exporters import model
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.make_variables import VARIABLES, in_the_words_of_the_door
from pipeline.prune import Request
from pipeline.store import Store
from tests.support import fill

DEMO = Path(__file__).resolve().parents[2] / "demo"
ROOT = DEMO.parent
ONE = BuildOptions(engines=("onnxruntime",))


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage may run."""

    def run(self: Store, stage: Any, source: Any) -> None:
        pytest.fail(f"{stage.name} was run")

    monkeypatch.setattr(Store, "run", run)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good photos and two that cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(fill.smooth_u8(name, 70, 90)).save(folder / name)
    (folder / "c.jpg").write_text("no picture")
    (folder / "d.png").write_bytes((folder / "a.png").read_bytes()[:500])
    return folder


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"prune": 30.0}, RequestError, "--prune=30: expected a share of the channels, from 0 to below 1"),
        ({"prune": -0.3}, RequestError, "--prune=-0.3"),
        ({"prune": float("nan")}, RequestError, "--prune=nan"),
        ({"recover_steps": -5}, RequestError, "--recover-steps=-5: expected 0"),
        ({"precisions": ("fp8",)}, RequestError, "not built in 'fp8'"),
        ({"engines": ("openvino",), "precisions": ("fp16",)}, EngineUnavailable, "no engine in fp16 among openvino"),
        ({"engines": ("nonsense",)}, RequestError, "there is no engine 'nonsense'"),
        ({"calibration": Path("nowhere")}, PhotoError, "there is no folder nowhere"),
        ({"parts": {"dctnet-head": "g"}}, CheckpointError, "has no parts"),
    ],
)
def test_bad_options_are_refused_before_any_stage(
    changed: dict[str, Any], error: type[CameoError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        build(model("dctnet"), DEMO, tmp_path / "out", replace(ONE, **changed), print)


def test_a_target_that_the_builder_does_not_know(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    options = BuildOptions(engines=("tensorrt-rtx",), targets=("sm_86", "sm_999"))
    with pytest.raises(RequestError, match="cannot build for 'sm_999': choose from .*sm_86"):
        build(model("dctnet"), DEMO, tmp_path / "out", options, print)


def test_calibration_photos_that_cannot_be_read_are_named(photos: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(pytest.fail.Exception, match="export-dctnet was run"):  # everything was in order
        build(model("dctnet"), DEMO, tmp_path / "out", replace(ONE, calibration=photos), lines.append)
    assert "2 of 4 calibration photos cannot be read, left out: c.jpg, d.png" in lines
    (photos / "b.png").unlink()
    with pytest.raises(PhotoError, match=r"2 of 3 calibration photos cannot be read \(c.jpg, d.png\)"):
        build(model("dctnet"), DEMO, tmp_path / "out", replace(ONE, calibration=photos), lines.append)


def test_learning_needs_photos_that_show_something(photos: Path, tmp_path: Path) -> None:
    for name in ("c.jpg", "d.png"):
        (photos / name).unlink()
    Image.new("RGB", (90, 70), "grey").save(photos / "b.png")
    options = replace(ONE, prune=0.3, recover_steps=2, calibration=photos)
    with pytest.raises(PhotoError, match="1 photos to learn from, expected at least 2.*b.png is one flat colour"):
        build(model("dctnet"), DEMO, tmp_path / "out", options, print)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda request: replace(request, ratio=30), "--ratio=30: expected a share"),
        (lambda request: replace(request, stages=("blocks=7",)), "--stage=blocks=7: expected a share"),
        (lambda request: replace(request, stages=("blocks",)), "--stage=blocks: expected GROUP=RATIO"),
        (lambda request: replace(request, multiple=0), "--multiple=0: expected 1 or more"),
        (lambda request: replace(request, recover_steps=-1), "--recover-steps=-1"),
    ],
)
def test_pruning_is_refused_before_the_checkpoint_is_read(
    change: Callable[[Request], Request], said: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=said):
        change(Request("dctnet-head", 0.3)).stage(tmp_path / "out.pb")


def test_make_is_spoken_to_in_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "name --prune=0.3, --fast, --recover-steps 600 or another --out; --multiple stays"
    assert in_the_words_of_the_door(said) == said
    monkeypatch.setenv(VARIABLES, "PRUNE= FAST=1 RECOVER_STEPS= OUT=")
    expected = "name PRUNE=0.3, FAST=1, RECOVER_STEPS= 600 or another OUT=; --multiple stays"
    assert in_the_words_of_the_door(said) == expected


def test_makes_variables_are_the_commands_flags() -> None:
    """Every variable that the Makefile names for errors is one that it passes on, and it offers no other flag."""
    makefile = (ROOT / "Makefile").read_text()
    named = makefile.partition("export CAMEO_VARIABLES := ")[2].partition("\n\n")[0].replace("\\", "").split()
    recipes = makefile.partition("\nengines: $(VENV)")[2].partition("\nserve:")[0]
    flags = {word.rstrip(")") for word in recipes.replace(",", " ").replace(":%=", " ").split() if word[:2] == "--"}
    assert flags == {"--" + name.partition("=")[0].lower().replace("_", "-") for name in named}


def test_make_refuses_in_its_own_words(tmp_path: Path) -> None:
    command = ["make", "-o", ".venv/.ready", "engines", "MODEL=dctnet", "WEIGHTS=demo", f"OUT={tmp_path / 'out'}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    if not Path(ROOT / ".venv/bin/python").exists() or Path(sys.prefix).name != ".venv":
        pytest.skip("needs the checkout's own .venv")
    for given, said in (("PRUNE=30", "error: PRUNE=30: expected"), ("FAST=1", "name the steps, RECOVER_STEPS=1500")):
        done = subprocess.run([*command, given], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert said in done.stderr
