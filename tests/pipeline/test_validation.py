"""Finished comparisons are kept: a validation that was stopped goes on, and a second one compares what is new."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cameo.errors import EngineError
from exporters import model
from metrics.timing import Rounds
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.validation import Limits, validate_bundle
from tests.support import fill, frozen_graphs
from validate.bundle import ValidationOptions
from validate.comparisons import CompareFlow, CompareNetwork
from validate.flow import FlowComparison
from validate.results import Report

pytestmark = [pytest.mark.usefixtures("in_process", "sessions_in_process"), pytest.mark.slow]

OPTIONS = ValidationOptions(((32, 32),), (32, 48), Rounds(least=3, most=3), timeout_s=120)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("weights")
    frozen_graphs.write_small(folder / "cartoon_h.pb")
    frozen_graphs.write_small(folder / "cartoon_bg.pb", "bg/")
    return folder


@pytest.fixture(scope="module")
def built(weights: Path, in_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "dctnet"
    build(model("dctnet"), weights, out, BuildOptions(("onnxruntime",), precisions=("fp32",)), print)
    return out


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """A bundle that was never compared, with what its build keeps beside it."""
    shutil.copytree(built.parent, tmp_path / "build")
    return tmp_path / "build" / built.name


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.fromarray(fill.smooth_u8(name, 60, 80)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really compared, in order."""
    found: list[str] = []

    def noted(run: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: CompareNetwork | CompareFlow, source: Path, tell: Any) -> Any:
            found.append(self.about)
            return run(self, source, tell)

        return wrapper

    for stage in (CompareNetwork, CompareFlow):
        monkeypatch.setattr(stage, "compare", noted(stage.compare))
    return found


def validate(bundle: Path, photos: Path, lines: list[str] | None = None, **limits: Any) -> Report:
    say = (lines if lines is not None else []).append
    return validate_bundle(bundle, None, photos, say, OPTIONS, Limits(**{"keep": True, **limits}))


def test_what_was_compared_is_found_again(bundle: Path, photos: Path, compared: list[str]) -> None:
    first = validate(bundle, photos)
    assert compared == ["dctnet-background", "dctnet-head", "the whole flow"]
    lines: list[str] = []
    second = validate(bundle, photos, lines)
    assert len(compared) == 3, "nothing was compared again"
    assert "3 of 3 comparisons were made before (--again makes them anew)" in lines
    assert (second.networks, second.flow, second.pictures, second.faces) == (
        *(first.networks, first.flow),
        *(first.pictures, first.faces),
    )
    Image.fromarray(fill.smooth_u8("c", 60, 80)).save(photos / "b.png")
    validate(bundle, photos)
    assert len(compared) == 6, "a photo is another one"
    validate(bundle, photos, keep=False)
    assert len(compared) == 9


def test_a_validation_that_was_stopped_goes_on(
    bundle: Path, photos: Path, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise EngineError("it was killed")

    with monkeypatch.context() as patch:
        patch.setattr(FlowComparison, "run", killed)
        with pytest.raises(EngineError, match="it was killed"):
            validate(bundle, photos)
    assert not (bundle / "report.json").exists()
    compared.clear()
    validate(bundle, photos)
    assert compared == ["the whole flow"]


def test_fewer_and_smaller_photos(bundle: Path, photos: Path) -> None:
    lines: list[str] = []
    report = validate(bundle, photos, lines, max_photos=1, max_side=40)
    assert [(photo.name, photo.height, photo.width) for photo in report.photos] == [("a.png", 30, 40)]
    assert lines[0].endswith("with their originals on 1 of 2 photos")
    assert report.flow is not None
    assert report.flow.latency_size == (30, 40)
