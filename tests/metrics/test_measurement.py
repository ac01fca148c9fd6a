"""Gates hold what they cover, and nothing that is not a number."""

import math

import pytest

from metrics.measurement import Gate, Measurement, find, hold

_PSNR = Measurement("dctnet-head/openvino-bf16", "psnr", 43.25, "dB", True)
_DIFFERENCE = Measurement("dctnet-head/openvino-bf16", "max_difference", 2, "levels", False)


@pytest.mark.parametrize(
    ("measurement", "limit", "passed"),
    [
        (_PSNR, 43.25, True),
        (_PSNR, 45, False),
        (_DIFFERENCE, 2, True),
        (_DIFFERENCE, 1, False),
    ],
)
def test_limits_are_on_the_side_that_is_worse(measurement: Measurement, limit: float, passed: bool) -> None:
    (result,) = hold(Gate(measurement.metric, limit), [_PSNR, _DIFFERENCE])
    assert result.measurement is measurement
    assert result.passed is passed


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_nan_never_passes(higher_is_better: bool) -> None:
    (result,) = hold(Gate("psnr", 0), [Measurement("a", "psnr", math.nan, "dB", higher_is_better)])
    assert not result.passed


def test_message_names_subject_metric_value_and_limit() -> None:
    (result,) = hold(Gate("psnr", 45), [_PSNR])
    assert str(result) == "psnr of dctnet-head/openvino-bf16 is 43.25 dB, expected at least 45 dB"


def test_gates_cover_what_they_name() -> None:
    subject = ("dctnet-head", "openvino", "bf16")
    assert Gate("psnr", 45).covers(*subject)
    assert Gate("psnr", 45, "openvino", "bf16", "dctnet-head").covers(*subject)
    assert not Gate("psnr", 45, precision="fp32").covers(*subject)
    assert not Gate("psnr", 45, engine="onnxruntime").covers(*subject)
    assert not Gate("psnr", 45, network="dctnet-background").covers(*subject)


def test_find() -> None:
    assert find([_PSNR, _DIFFERENCE], "max_difference") == 2
    assert find([_PSNR], "ssim") is None
