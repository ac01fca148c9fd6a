"""How far long work is, where there is no terminal."""

import pytest

from cameo.progress import Pace
from pipeline import bar
from pipeline.bar import StageBar


def test_a_line_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [100.0], list[str]()
    monkeypatch.setattr(bar, "monotonic", lambda: clock[0])
    with StageBar("comparing", said.append) as shown:
        for done in range(19):
            shown.show("net/openvino-bf16", done, 18)
            clock[0] += 2
    assert said == [f"comparing: net/openvino-bf16, {done} of 18" for done in (3, 8, 16)], "not 18: that is done"


def test_a_stage_that_tells_no_step_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [100.0], list[str]()
    monkeypatch.setattr(bar, "monotonic", lambda: clock[0])
    with StageBar("export of net", said.append) as shown:
        for _ in range(6):
            clock[0] += 3
            shown.still()
        shown.show("tensors", 1, 2)
        clock[0] += 20
        shown.still()
    assert said == [
        "export of net: 6 s so far",
        "export of net: 18 s so far",
        "export of net: tensors, 1 of 2, 38 s so far",
    ]


def test_stages_one_after_another_share_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says that it is built, which is a sign of life: a hundred of 8 s are not a hundred lines more."""
    clock, said = [100.0], list[str]()
    monkeypatch.setattr(bar, "monotonic", lambda: clock[0])
    pace = Pace(lambda: clock[0])
    for number in range(100):
        with StageBar(str(number), said.append, pace) as shown:
            for _ in range(8):
                clock[0] += 1
                shown.still()
    with StageBar("long", said.append, pace) as shown:
        for _ in range(65):
            clock[0] += 1
            shown.still()
    assert said == ["0: 5 s so far", *(f"long: {s} s so far" for s in (10, 25, 40, 55))]


def test_a_stage_is_silent_unless_somebody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    with StageBar("convert-to-fp16") as shown:
        shown.show("calibrating", 1, 2)
    assert capfd.readouterr() == ("", "")
