"""Where two runs of a flow part: recorded at the sessions' seam, row by row whatever the batches."""

import math

import numpy as np
import pytest

from cameo.testing import image_session
from metrics.identity import likeness
from validate.recording import FACES, MADE, Recorder, from_arrays, to_arrays
from validate.stages import compare_stages


def recorded(batches: list[int], off: int = 0) -> dict:
    """A network that inverts, run on the same four rows in these batches, after another that adds `off`."""
    recorder = Recorder()
    rows = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)
    sessions = recorder.watched(
        {"b": image_session(lambda x: x + np.uint8(off)), "a": image_session(lambda x: 255 - x)}
    )
    recorder.start()
    for part in np.split(rows, np.cumsum(batches)[:-1]):
        moved = sessions["b"].run({"image": part})["result"]
        sessions["a"].run({"image": moved})
    sessions["a"].run({"image": rows[:1], "seed": np.array(3)})
    return from_arrays(to_arrays(recorder.stop()))


def test_batches_do_not_matter_and_stages_come_in_the_order_of_the_calls() -> None:
    one, other = recorded([4]), recorded([1, 2, 1])
    found = compare_stages(one, other)
    assert [(stage.network, stage.made, stage.edge) for stage in found] == [
        ("b", False, "image"),
        ("b", True, "result"),
        ("a", False, "image"),
        ("a", True, "result"),
        ("a", False, "seed"),
    ]
    assert [stage.rows for stage in found] == [4, 4, 5, 5, 1]
    assert all(stage.error == 0 and not stage.said and not stage.first_off for stage in found)


@pytest.mark.parametrize(("off", "first"), [(2, []), (3, ["b result"])])
def test_the_first_stage_beyond_the_tolerance_is_marked(off: int, first: list[str]) -> None:
    """One per cent of 255 is 2.55 levels."""
    found = compare_stages(recorded([4]), recorded([4], off))
    assert [f"{stage.network} {stage.edge}" for stage in found if stage.first_off] == first
    result = next(stage for stage in found if (stage.network, stage.edge) == ("b", "result"))
    assert result.error == pytest.approx(off / 255)
    assert result.psnr == pytest.approx(20 * math.log10(255 / off))
    assert result.difference == off


def test_what_does_not_match_is_said() -> None:
    points, crop = [np.ones((5, 2))] * 3, np.zeros((4, 4, 3), np.uint8)
    original = {(FACES, MADE, "points"): points, ("a", MADE, "result"): [crop], ("a", MADE, "x"): [np.ones(3)]}
    candidate = {(FACES, MADE, "points"): points[:2], ("a", MADE, "result"): [crop[:2]]}
    found = compare_stages(original, candidate)
    assert [stage.said for stage in found] == ["3 faces against 2", "4×4×3 against 2×4×3", "1 rows against 0"]
    assert [stage.first_off for stage in found] == [True, False, False]


def test_a_value_that_is_no_number_is_off() -> None:
    rows = [np.ones(3), np.array([1, np.nan, 1])]
    (stage,) = compare_stages({("a", MADE, "x"): [np.ones(3)] * 2}, {("a", MADE, "x"): rows})
    assert stage.first_off


def test_nothing_is_kept_unasked() -> None:
    recorder = Recorder()
    recorder.watched({"a": image_session(lambda x: x)})["a"].run({"image": np.zeros((1, 2, 2, 3), np.uint8)})
    assert recorder.stop() == {}


def test_likeness_is_the_cosine_to_the_most_similar() -> None:
    face = np.array([3, 0], np.float32)
    assert likeness(face, np.array([[0, 1], [1, 1], [-1, 0]], np.float32)) == pytest.approx(math.sqrt(0.5))
    assert math.isnan(likeness(face, np.zeros((0, 1), np.float32)))
