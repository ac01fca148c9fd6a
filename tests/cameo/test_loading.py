"""Which engine a bundle is opened on."""

import pytest

from cameo.backends import backend
from cameo.bundle import EngineEntry, NetworkEntry, StoredFile
from cameo.errors import EngineUnavailable
from cameo.loading import LoadOptions, choose_engine

FILE = StoredFile("file", "engine", "0" * 64, 1)
BUILT = [
    ("onnxruntime", "fp32"),
    ("onnxruntime", "fp16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("tensorrt-rtx", "fp32"),
    ("tensorrt-rtx", "fp16"),
    ("openvino", "int8"),
    ("onnxruntime", "int8"),
]
NETWORK = NetworkEntry("network", (), (), FILE, {}, tuple(EngineEntry(*names, FILE) for names in BUILT))


def chosen(monkeypatch: pytest.MonkeyPatch, running: dict[str, tuple[str, ...]], **options: str) -> tuple[str, str]:
    """What is chosen where engines run in these precisions only."""
    for name in ("onnxruntime", "openvino", "tensorrt-rtx"):
        here = running.get(name, ())
        monkeypatch.setattr(backend(name), "why_unavailable", lambda p="fp32", h=here: None if p in h else "not here")
    entry = choose_engine(NETWORK, LoadOptions(**options))
    return entry.engine, entry.precision


CPU = {"onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}
GPU = {**CPU, "onnxruntime": ("fp32", "fp16"), "tensorrt-rtx": ("fp32", "fp16")}


def test_fp16_comes_first_where_a_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, GPU) == ("tensorrt-rtx", "fp16")
    assert chosen(monkeypatch, GPU, precision="fp32") == ("tensorrt-rtx", "fp32")
    assert chosen(monkeypatch, {**GPU, "tensorrt-rtx": ()}) == ("onnxruntime", "fp16")


def test_a_cpu_gets_what_cpus_compute_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, CPU) == ("openvino", "bf16")
    assert chosen(monkeypatch, GPU, device="cpu") == ("openvino", "bf16")
    assert chosen(monkeypatch, GPU, device="cpu", engine="onnxruntime") == ("onnxruntime", "fp32")


def test_int8_runs_where_it_is_asked_for_or_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}
    assert chosen(monkeypatch, everything) == ("openvino", "bf16")
    assert chosen(monkeypatch, everything, engine="onnxruntime") == ("onnxruntime", "fp32")
    assert chosen(monkeypatch, everything, precision="int8") == ("openvino", "int8")
    alone = {"onnxruntime": ("int8",), "openvino": ("int8",)}
    assert chosen(monkeypatch, alone) == ("openvino", "int8")


def test_why_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match="tensorrt-rtx fp16: not here; onnxruntime fp16: not here"):
        chosen(monkeypatch, CPU, precision="fp16")
    with pytest.raises(EngineUnavailable, match="tensorrt-rtx fp32: it runs on cuda, not on cpu"):
        chosen(monkeypatch, GPU, engine="tensorrt-rtx", device="cpu")
