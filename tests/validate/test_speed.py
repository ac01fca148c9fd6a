"""Two builds of a network timed in turns, and what the build says of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from cameo.artifact import Artifact
from cameo.testing import IMAGE
from engines import InputRange, engine
from exporters.recipe import Recipe
from metrics import timing
from pipeline.recommend import sentence, with_recommendations
from pipeline.store import Result, Store
from validate import speed
from validate.speed import CompareSpeed


class Sleeper:
    """A session that takes as long as its file says."""

    inputs = (IMAGE,)

    def __init__(self, path: Path, clock: list[float]) -> None:
        self._seconds, self._clock = float(path.read_text()), clock

    def __enter__(self) -> "Sleeper":
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds["image"].shape == (2, 8, 8, 3)
        self._clock[0] += self._seconds
        return {}


@pytest.mark.parametrize(("own", "recommended"), [(0.5, True), (0.95, False), (1.5, False)])
def test_int8_is_recommended_where_it_is_faster(
    own: float, recommended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    backend = type("Backend", (), {"open_session": staticmethod(lambda path, options: Sleeper(path, clock))})
    monkeypatch.setattr(speed, "backend", lambda name: backend)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    for name, seconds in (("int8", own), ("rival", 1.0)):
        (tmp_path / name).write_text(str(seconds))
    stage = CompareSpeed("openvino", "int8", tmp_path / "rival", "0" * 64, "bf16", (8, 8), batch=2)
    facts = stage.run(tmp_path / "int8", tmp_path / "speed.json")
    assert facts["recommended"] is recommended
    assert facts["speedup"] == pytest.approx(1 / own, abs=0.01)
    assert facts == json.loads((tmp_path / "speed.json").read_text())
    assert sentence("int8", facts).endswith("use int8" if recommended else "use bf16")


def test_engines_built_ahead_are_judged_by_their_plans(tmp_path: Path) -> None:
    def result(mib: int) -> Result:
        plans = [("one", mib), ("large", 5000)]
        shapes = {key: [1, 8, 8, 3] for key in ("min", "opt", "max")}
        profiles = [
            {"name": name, **shapes, "weight_bytes": 2**20, "activation_bytes": (n - 1) * 2**20} for name, n in plans
        ]
        return Result(Artifact(tmp_path, "", ""), {"profiles": profiles}, built=True)

    shape = (1, 8, 8, 3)
    recipe = Recipe("network", (), ("tensorrt-rtx",), (InputRange("one", shape, shape, shape),))
    said: list[str] = []
    built = {("tensorrt-rtx", "int8"): result(88)}
    store = Store(tmp_path / "store")
    found = with_recommendations(recipe, built, built, lambda name, graph: result(112), store, said.append)
    assert said == ["network on tensorrt-rtx: int8 plans 88 MiB and fp32 112 MiB: use int8"]
    assert found["tensorrt-rtx", "int8"].facts["comparison"]["recommended"] is True
    rivals = {**built, ("tensorrt-rtx", "fp16"): result(58)}  # of the network itself, where a variant became INT8
    with_recommendations(recipe, built, rivals, lambda name, graph: result(112), store, said.append)
    assert said[-1] == "network on tensorrt-rtx: int8 plans 88 MiB and fp16 58 MiB: use fp16"
    assert built["tensorrt-rtx", "int8"].facts.get("comparison") is None, "what was built stays as it is"


def test_every_engine_of_int8_graphs_says_so() -> None:
    for name in ("onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"):
        assert engine(name).PRECISIONS["int8"] == ("int8",)
