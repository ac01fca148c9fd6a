"""What the doctor says: this machine, and a line with a reason for each engine."""

import ctypes
import json
from typing import Any

import pytest

from cameo import backends, cuda_driver, doctor
from cameo.commands import main


def test_every_engine_gets_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in backends.backend_names():
        line = next(line for line in text.splitlines() if line.startswith(name.ljust(14)))
        reason = backends.backend(name).why_unavailable()
        assert (f"cannot run here: {reason}" if reason else "runs here (") in line


def test_why_an_engine_cannot_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from cameo.backends import openvino

    monkeypatch.setattr(
        openvino, "why_unavailable", lambda precision, device="": None if precision == "fp32" else "no bf16"
    )
    lines = [line for line in str(doctor.Doctor()).splitlines() if line.startswith("openvino")]
    assert "runs here" in lines[0]
    assert lines[1].split(maxsplit=2)[1:] == ["bf16", "cannot run here: no bf16"]


def test_cpu_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: {"avx512f", "amx_bf16"})
    assert ", AVX-512, AMX bf16\n" in str(doctor.Doctor())
    monkeypatch.setattr(doctor, "_cpu_flags", set)
    assert "no vector features" in str(doctor.Doctor())


class FakeDriver:
    """libcuda of a machine with one RTX 3060."""

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13000
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = 5
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"RTX 3060"
        return 0 if device.value == 5 else 1

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:  # noqa: N802
        memory._obj.value = 12288 * 2**20
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[attribute]
        return 0


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_driver", FakeDriver)
    assert cuda_driver.why_no_gpu() is None
    assert "GPU: RTX 3060, sm_86, 12288 MiB, driver for CUDA 13.0" in str(doctor.Doctor())


def test_a_machine_without_driver_or_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_driver", lambda: None)
    assert cuda_driver.driver_version() is None
    assert "GPU: no NVIDIA driver is here" in str(doctor.Doctor())

    class Empty(FakeDriver):
        def cuDeviceGetCount(self, count: ctypes.c_int) -> int:  # noqa: N802
            return 0

    monkeypatch.setattr(cuda_driver, "_driver", Empty)
    assert "it shows no GPU" in str(doctor.Doctor())


def test_the_doctor_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {engine["engine"] for engine in facts["engines"]} == set(backends.backend_names())
    for engine in facts["engines"]:
        assert engine["why_not"] == backends.backend(engine["engine"]).why_unavailable(engine["precision"])
