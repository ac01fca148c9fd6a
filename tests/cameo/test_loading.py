"""Which engine a bundle is opened on."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo import Loaded, load, save
from cameo.backends import backend, backend_names
from cameo.bundle import MANIFEST_NAME, EngineEntry, NetworkEntry, StoredFile
from cameo.errors import BundleError, CameoError, EngineUnavailable, OutputError, PhotoError, RequestError, SigningError
from cameo.opening import LoadOptions, choose_engine
from cameo.testing import Strain, fake_bundle, image_session

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
        monkeypatch.setattr(
            backend(name), "why_unavailable", lambda p="fp32", d="", h=here: None if p in h else "not here"
        )
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
    with pytest.raises(EngineUnavailable, match="no mode 'fast' for network: it has quality, balanced; ask"):
        chosen_of(network, monkeypatch, running, mode="fast")


RANKING = (
    "tensorrt fp16",
    "tensorrt int8 recommended",
    "tensorrt fp32",
    "tensorrt-rtx fp16",
    "tensorrt-rtx int8 recommended",
    "tensorrt-rtx fp32",
    "onnxruntime fp16",
    "openvino int8 recommended",
    "openvino bf16",
    "openvino fp32",
    "onnxruntime int8 recommended",
    "onnxruntime fp32",
    "tensorrt int8",
    "tensorrt-rtx int8",
    "openvino int8",
    "onnxruntime int8",
)


def ranked(label: str) -> EngineEntry:
    """An engine of the ranking."""
    engine, precision, *recommended = label.split()
    return EngineEntry(engine, precision, FILE, facts={"comparison": {"recommended": True}} if recommended else {})


def test_every_engine_and_precision_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in backend_names():
        monkeypatch.setattr(backend(name), "why_unavailable", lambda *_: None)
    for better, worse in combinations(RANKING, 2):
        for pair in ((better, worse), (worse, better)):
            network = NetworkEntry("network", (), (), FILE, {}, tuple(map(ranked, pair)))
            assert choose_engine(network, LoadOptions()) == ranked(better), pair
    declared = {f"{name} {precision}" for name in backend_names() for precision in backend(name).PRECISIONS}
    assert declared == {label.removesuffix(" recommended") for label in RANKING}


def test_why_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match="tensorrt-rtx fp16: not here; onnxruntime fp16: not here"):
        chosen(monkeypatch, CPU, precision="fp16")
    with pytest.raises(EngineUnavailable, match="tensorrt-rtx fp32: it runs on cuda, not on cpu"):
        chosen(monkeypatch, GPU, engine="tensorrt-rtx", device="cpu")


def test_what_each_engine_lacks_for_a_device_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cameo.backends.onnxruntime.why_no_gpu", lambda: "no GPU in this test")
    monkeypatch.setattr(backend("tensorrt-rtx"), "why_unavailable", lambda *_: "no RTX GPU")
    with pytest.raises(EngineUnavailable) as raised:
        choose_engine(NETWORK, LoadOptions(device="cuda"))
    said = str(raised.value)
    assert "tensorrt-rtx fp16: no RTX GPU" in said
    assert "onnxruntime fp32: no GPU in this test" in said
    assert "openvino fp32: it runs on cpu, not on cuda" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "fats"}, "Option `mode` of load is 'fats', expected quality or balanced or fast"),
        ({"engine": "openvinoo"}, "there is no engine 'openvinoo': choose one of onnxruntime, openvino,"),
        ({"precision": "bf61"}, "there is no precision 'bf61': choose one of bf16, fp16, fp32, int8"),
        ({"device": "tpu"}, "Option `device` of load is 'tpu', expected cpu or cuda"),
        ({"threads": -3}, "Option `threads` of load is -3, expected a whole number from 0 to 1024"),
        ({"threads": "2"}, "Option `threads` of load is '2'"),
        ({"threads": 100_000}, "Option `threads` of load is 100000"),
        ({"consent": "no"}, "Option `consent` of load is 'no', expected yes or no"),
        ({"engine": None}, "Option `engine` of load is None"),
        ({"exact": 1}, "Option `exact` of load is 1"),
    ],
)
def test_what_cannot_be_meant_is_another_sentence_than_what_a_bundle_lacks(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        LoadOptions(**options)


def test_what_a_bundle_lacks_is_said_beside_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    network = replace(NETWORK, engines=NETWORK.engines[2:4])
    for options, said in (
        ({"mode": "fast"}, "no mode 'fast' for network: it has quality; ask for one of these"),
        ({"engine": "tensorrt"}, "no engine 'tensorrt' for network: it has openvino;"),
        ({"precision": "int8"}, "no precision 'int8' for network: it has bf16, fp32;"),
    ):
        with pytest.raises(EngineUnavailable, match=said):
            chosen_of(network, monkeypatch, CPU, **options)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Loaded]:
    networks = {"gpen-bfr-64": image_session(lambda image: 255 - image, Strain(run_s=0.01))}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as bundle, load(bundle, aligned=True) as loaded:
        yield loaded


PHOTO = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda m: m.run(PHOTO, {"alpha": 1}), RequestError, "request is of the type dict, expected what request"),
        (lambda m: m.run(PHOTO, progress=3), RequestError, "progress is 3, expected a function"),
        (lambda m: m.run(PHOTO, consent="no"), RequestError, "consent is 'no', expected True or False"),
        (lambda m: m.run_many("photo.jpg"), RequestError, "run_many was given one str, expected several photos"),
        (lambda m: m.run_many(3), RequestError, "run_many was given one int"),
        (lambda m: m.run_many([], in_flight="2"), RequestError, "in_flight is '2', expected a whole number"),
        (lambda m: m(3), PhotoError, "The photo is of the type int"),
        (lambda m: m({3: PHOTO}), RequestError, "takes photo, got 3"),
        (lambda m: load(3), BundleError, "a bundle was asked for by 3, expected the path"),
        (lambda m: load(m.bundle.folder, runtime=3), RequestError, "runtime is 3, expected a cameo.runtime.Runtime"),
        (
            lambda m: save(m.run(PHOTO), "x.png", signer=3),
            SigningError,
            "the signer is of the type int, expected Signer",
        ),
        (lambda m: save(PHOTO, "x.png"), OutputError, "the result is of the type ndarray, expected Outcome"),
        (lambda m: save(m.run(PHOTO), 3), OutputError, "to be written to 3, expected a path"),
    ],
)
def test_wrong_types_are_our_errors(
    model: Loaded, call: Callable[[Loaded], Any], error: type[CameoError], said: str
) -> None:
    with pytest.raises(error, match=said):
        call(model)


def test_a_photo_may_be_called_by_its_name(model: Loaded) -> None:
    np.testing.assert_array_equal(np.asarray(model(photo=PHOTO)), np.asarray(model(PHOTO)))
    with pytest.raises(RequestError, match="takes photo, got nothing: give 1 photo"):
        model()


def test_what_gives_up_more_than_was_asked_for_is_said(model: Loaded) -> None:
    manifest = model.bundle.manifest
    networks = {
        name: replace(network, engines=tuple(replace(entry, mode="balanced") for entry in network.engines))
        for name, network in manifest.networks.items()
    }
    (model.bundle.folder / MANIFEST_NAME).write_text(replace(manifest, networks=networks).to_json())
    said = (
        "The bundle has nothing of gpen-bfr-64 in the mode quality that runs here and fits: fake-bundle fp32 (balanced)"
    )
    for asked, notes in (({}, True), ({"mode": "balanced"}, False), ({"precision": "fp32"}, False)):
        with load(model.bundle.folder, **asked) as other:
            assert any(note.startswith(said) for note in other.notes) == notes


def test_a_call_gives_faces_note_and_times(model: Loaded) -> None:
    outcome = model.run(PHOTO)
    assert (len(outcome.faces), outcome.note) == (1, "The whole photo was taken as one aligned face.")
    assert set(outcome.times_s) == {"read", "run", "gpen-bfr-64"}
    assert 0.01 <= outcome.times_s["gpen-bfr-64"] <= outcome.times_s["run"] < 10
    assert model.run(PHOTO, model.request(aligned=False)).faces == ()


def test_what_is_loaded_and_run_is_logged_under_cameo(model: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "cameo")
    with load(model.bundle.folder, aligned=True) as other:
        other(PHOTO)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("cameo.")]
    assert "fake-gpen loaded, gpen-bfr-64: fake-bundle fp32" in said
    assert any(line.startswith("fake-gpen: 1 face, {'read': ") for line in said)
    assert said[-1] == "fake-gpen closed"
    assert all(record.levelno < logging.WARNING for record in caplog.records), (
        "nothing is printed unless it is asked for"
    )


def test_a_precision_of_a_newer_version_is_not_chosen() -> None:
    newer = NetworkEntry("network", (), (), FILE, {}, (EngineEntry("onnxruntime", "fp4", FILE),))
    with pytest.raises(EngineUnavailable, match="onnxruntime fp4: this version of Cameo does not run it in fp4"):
        choose_engine(newer, LoadOptions())
