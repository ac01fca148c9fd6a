"""The worst of several runs is what counts, and outputs that do not correspond are refused."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cameo.errors import EngineError
from cameo.tensors import TensorSpec
from validate.fidelity import measurements, worst

_RESULT = (TensorSpec("result", "uint8", ("N", "H", "W", 3)),)
_BOXES = (TensorSpec("boxes", "float32", ("N", 2)), TensorSpec("count", "int32", ("N",)))


def _grey(level: int) -> dict[str, NDArray[np.uint8]]:
    return {"result": np.full((2, 16, 16, 3), level, np.uint8)}


def test_pictures_are_measured_by_every_metric_and_batches_by_their_worst() -> None:
    candidate = _grey(100)
    candidate["result"][1] += 5
    found = {d.metric: d.value for d in measurements("a/b", _RESULT, _grey(100), candidate)}
    assert found["max_difference"] == 5
    assert found["changed_share"] == 100
    assert found["psnr"] == pytest.approx(10 * math.log10(255**2 / 25))
    assert set(found) == {"max_difference", "changed_share", "psnr", "ssim"}


def test_other_outputs_are_measured_by_their_largest_difference() -> None:
    original = {"boxes": np.array([[0.5, 1.0]], np.float32), "count": np.array([3], np.int32)}
    candidate = {"boxes": np.array([[0.25, 1.0]], np.float32), "count": np.array([4], np.int32)}
    found = {d.metric: d.value for d in measurements("a/b", _BOXES, original, candidate)}
    assert found == {"max_difference/boxes": 0.25, "max_difference/count": 1}


def test_worst_of_runs_looks_the_right_way_and_keeps_nan() -> None:
    runs = [d for level in (100, 101, 103) for d in measurements("a/b", _RESULT, _grey(100), _grey(level))]
    found = {d.metric: d.value for d in worst(runs)}
    assert found["max_difference"] == 3
    assert found["psnr"] == pytest.approx(10 * math.log10(255**2 / 9))
    original = {"boxes": np.zeros((1, 2), np.float32), "count": np.array([3], np.int32)}
    broken = {**original, "boxes": np.array([[np.nan, 0]], np.float32)}
    both = [*measurements("a/b", _BOXES, original, broken), *measurements("a/b", _BOXES, original, original)]
    assert math.isnan(next(d.value for d in worst(both) if d.metric == "max_difference/boxes"))


@pytest.mark.parametrize(
    "candidate",
    [{}, {"result": np.zeros((2, 16, 15, 3), np.uint8)}, {"result": np.zeros((2, 16, 16, 3), np.float32)}],
    ids=["missing", "shape", "dtype"],
)
def test_outputs_that_do_not_correspond(candidate: dict[str, NDArray[np.uint8]]) -> None:
    with pytest.raises(EngineError, match=r"output 'result': expected uint8 \(2, 16, 16, 3\) as the original gives"):
        measurements("a/b", _RESULT, _grey(1), candidate)
