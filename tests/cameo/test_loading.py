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


Running = dict[str, tuple[str, ...]]


def chosen(monkeypatch: pytest.MonkeyPatch, running: Running, **options: str) -> tuple[str, str]:
    """What is chosen where engines run in these precisions only."""
    entry = chosen_of(NETWORK, monkeypatch, running, **options)
    return entry.engine, entry.precision


def chosen_of(network: NetworkEntry, monkeypatch: pytest.MonkeyPatch, running: Running, **options: str) -> EngineEntry:
    """The same of another network."""
    for name in ("onnxruntime", "openvino", "tensorrt-rtx"):
        here = running.get(name, ())
        monkeypatch.setattr(backend(name), "why_unavailable", lambda p="fp32", h=here: None if p in h else "not here")
    return choose_engine(network, LoadOptions(**options))


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


def balanced(recommended: bool) -> NetworkEntry:
    """The network with INT8 and pruned engines for OpenVINO; whether the build recommends its INT8."""
    int8 = EngineEntry("openvino", "int8", FILE, facts={"comparison": {"recommended": recommended}}, mode="balanced")
    pruned = [EngineEntry("openvino", precision, FILE, mode="balanced") for precision in ("fp32", "bf16")]
    return NetworkEntry("network", (), (), FILE, {}, (*pruned, int8, *NETWORK.engines[2:4]))


def test_modes_that_give_something_up_run_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    running = {"openvino": ("fp32", "bf16", "int8")}
    for recommended, label in ((True, "openvino int8 (balanced)"), (False, "openvino bf16 (balanced)")):
        network = balanced(recommended)
        assert chosen_of(network, monkeypatch, running).label == "openvino bf16"
        assert chosen_of(network, monkeypatch, running, mode="quality").label == "openvino bf16"
        assert chosen_of(network, monkeypatch, running, mode="balanced").label == label
        assert chosen_of(network, monkeypatch, running, precision="int8").label == "openvino int8 (balanced)"
    with pytest.raises(EngineUnavailable, match=r"no engine 'fast' for network: it has openvino fp32 \(balanced\)"):
        chosen_of(network, monkeypatch, running, mode="fast")


def test_why_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match="tensorrt-rtx fp16: not here; onnxruntime fp16: not here"):
        chosen(monkeypatch, CPU, precision="fp16")
    with pytest.raises(EngineUnavailable, match="tensorrt-rtx fp32: it runs on cuda, not on cpu"):
        chosen(monkeypatch, GPU, engine="tensorrt-rtx", device="cpu")
