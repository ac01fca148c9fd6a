"""Files of torch.save as people have them: zipped again, damaged, with plain data beside the tensors, or others."""

import argparse
import datetime
import gzip
import json
import pickle
import struct
import tarfile
import types
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cameo.errors import CheckpointError
from exporters.checkpoints.torch_checkpoint import load_state_dict
from tests.support import frozen_graphs, onnx_graphs

WEIGHTS = {"a.weight": torch.arange(4.0), "b.weight": torch.linspace(-1, 1, 300).reshape(3, 100)}


def saved(folder: Path, content: Any = WEIGHTS, **options: Any) -> Path:
    torch.save(content, folder / "weights.pth", **options)
    return folder / "weights.pth"


def zipped_again(path: Path, method: int, folder: str | None = None) -> Path:
    """The archive as another tool would pack it; `folder` is what its files are put in, None the same as before."""
    again = path.with_name("again.pth")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(again, "w", method) as target:
        for name in source.namelist():
            inner = name if folder is None else folder + name.partition("/")[2]
            target.writestr(inner, source.read(name))
    return again


def assert_is_weights(state: dict[str, torch.Tensor]) -> None:
    assert list(state) == list(WEIGHTS)
    assert all(torch.equal(state[key], tensor) for key, tensor in WEIGHTS.items())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("folder", [None, "", "other/", "outer/inner/"])
def test_a_checkpoint_zipped_again_has_the_same_weights(method: int, folder: str | None, tmp_path: Path) -> None:
    assert_is_weights(load_state_dict(zipped_again(saved(tmp_path), method, folder), "any"))


def test_a_checkpoint_with_some_records_deflated(tmp_path: Path) -> None:
    path = saved(tmp_path)
    again = tmp_path / "mixed.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(again, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name), zipfile.ZIP_DEFLATED if name.endswith("data/0") else None)
    assert_is_weights(load_state_dict(again, "any"))


def test_what_a_desktop_adds_to_an_archive_does_not_matter(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/weights/._data.pkl", b"\x00\x05\x16\x07")
    assert_is_weights(load_state_dict(path, "any"))


def test_an_archive_of_two_checkpoints_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in records.items():
            archive.writestr(f"second/{name}", data)
    with pytest.raises(CheckpointError, match="several checkpoints, weights/data.pkl and second/weights/data.pkl"):
        load_state_dict(path, "any")


def test_a_checkpoint_of_torch_that_is_called_safetensors(tmp_path: Path) -> None:
    path = saved(tmp_path).rename(tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="is a PyTorch checkpoint by another name.*call it .pth"):
        load_state_dict(path, "any")


@pytest.mark.parametrize(
    "begins_like", [b"\x08\x01\x12", b"\x08\x03\x12", b"PK\x03"], ids=["SavedModel", "ONNX", "zip"]
)
def test_a_safetensors_file_is_told_whatever_its_header_is_long(begins_like: bytes, tmp_path: Path) -> None:
    length = int.from_bytes(begins_like, "little")
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    header = json.dumps({"a": entry}).encode().ljust(length)
    path = tmp_path / "weights.pth"
    path.write_bytes(length.to_bytes(8, "little") + header + np.arange(4, dtype=np.float32).tobytes())
    assert load_state_dict(path, "any")["a"].tolist() == [0, 1, 2, 3]


def test_numbers_that_float32_cannot_hold_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="w has 1 of 2 values that are NaN or infinite"):
        load_state_dict(saved(tmp_path, {"w": torch.tensor([1e300, 1], dtype=torch.float64)}), "any")
    eighths = torch.tensor([0.5, -2]).to(torch.float8_e4m3fn)
    assert load_state_dict(saved(tmp_path, {"w": eighths}), "any")["w"].tolist() == [0.5, -2]
    pairs = torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    with pytest.raises(CheckpointError, match="w is not a plain tensor .torch.float4_e2m1fn_x2"):
        load_state_dict(saved(tmp_path, {"w": pairs}), "any")


def test_a_dict_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    content: dict[str, Any] = {"g": WEIGHTS}
    content |= {f"again{i}": content for i in range(9)}
    assert_is_weights(load_state_dict(saved(tmp_path, content), "any"))


def test_a_checkpoint_written_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_is_weights(load_state_dict(path, "any"))


def test_what_is_compressed_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped_again(saved(tmp_path), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("exporters.checkpoints.torch_file.MAX_INFLATED_BYTES", 1000)
    with pytest.raises(CheckpointError, match="it is compressed and would take [0-9,]+ bytes"):
        load_state_dict(path, "any")


def test_a_flipped_bit_in_a_weight_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(struct.pack("<2f", 2, 3))] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="Bad CRC-32 for file 'weights/data/0'"):
        load_state_dict(path, "any")


@pytest.mark.parametrize("packing", ["stored", "deflated", "safetensors", "before 1.6"])
def test_damage_gives_the_right_weights_or_a_sentence(packing: str, tmp_path: Path) -> None:
    path = saved(tmp_path, _use_new_zipfile_serialization=packing != "before 1.6")
    if packing == "deflated":
        path = zipped_again(path, zipfile.ZIP_DEFLATED)
    if packing == "safetensors":
        from safetensors.torch import save_file

        path = tmp_path / "weights.safetensors"
        save_file(WEIGHTS, path)
    checked = packing in ("stored", "deflated")
    whole = path.read_bytes()
    random = np.random.default_rng(20)
    refusals: list[str] = []
    for attempt in range(150):
        damaged = bytearray(whole)
        if attempt % 3 == 0:
            del damaged[random.integers(len(whole)) :]
        elif attempt % 3 == 1:
            damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        else:
            begin = int(random.integers(len(whole)))
            damaged[begin : begin + 16] = random.bytes(16)
        path.write_bytes(damaged)
        try:
            state = load_state_dict(path, "any")
        except CheckpointError as error:
            refusals.append(str(error))
        else:
            if checked:
                assert_is_weights(state)
    assert len(refusals) >= 50
    assert not any("\n" in refusal for refusal in refusals)


def test_a_tensor_larger_than_its_record_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.arange(4.0), "b": torch.arange(4.0)})
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "evil.pth", "w", method) as target:
            for name in source.namelist():
                data = source.read(name)
                if name.endswith("data.pkl"):
                    data = data.replace(b"K\x04tq", b"K\x40tq").replace(b"K\x04\x85q", b"K\x40\x85q")
                target.writestr(name, data)
        with pytest.raises(CheckpointError, match="data/0 has 16 bytes, its tensor 256"):
            load_state_dict(tmp_path / "evil.pth", "any")


def test_a_repeated_number_that_claims_gigabytes_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    path = saved(tmp_path, {"w": torch.ones(1, dtype=torch.half).expand(6_750_000_000)})
    assert path.stat().st_size < 3000
    with pytest.raises(CheckpointError, match="2 bytes of weights that claim to be 27,000,000,000"):
        load_state_dict(path, "any")
    assert load_state_dict(saved(tmp_path, {"w": torch.ones(1).expand(64)}), "any")["w"].tolist() == [1] * 64


DATA = {
    "float64": np.float64(3),
    "float32": np.float32(3),
    "int64": np.int64(3),
    "bool": np.bool_(True),
    "array": np.arange(3),
    "texts": np.array(["a", "b"]),
    "dtype": np.dtype("float16"),
    "dates": np.array(["2024-01-01"], "datetime64[D]"),
    "namespace": argparse.Namespace(lr=0.1, betas=(0.9, 0.99), step=np.float64(2)),
    "simple namespace": types.SimpleNamespace(lr=0.1),
    "path": Path("runs/1"),
    "date": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "defaultdict": defaultdict(list, {"loss": [1.0, 2.0]}),
    "set": {1, 2},
    "bytes": b"\x00\xff",
    "complex": 1j,
}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_plain_data_beside_the_tensors_is_no_code(kind: str, new: bool, tmp_path: Path) -> None:
    content = {"iter": DATA[kind], "g_ema": WEIGHTS}
    assert_is_weights(load_state_dict(saved(tmp_path, content, _use_new_zipfile_serialization=new), "any"))


def test_files_of_numpy_1_name_its_functions_otherwise(tmp_path: Path) -> None:
    content = {"iter": np.float64(3), "g_ema": {key: tensor.numpy() for key, tensor in WEIGHTS.items()}}
    path = saved(tmp_path, content)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "old.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"numpy._core.", b"numpy.core."))
    assert_is_weights(load_state_dict(tmp_path / "old.pth", "any"))


@pytest.mark.parametrize("order", ["<f4", ">f4", "<f8", "<f2"])
def test_arrays_are_weights_as_tensors_are(order: str, tmp_path: Path) -> None:
    state = load_state_dict(saved(tmp_path, {"a": np.array([0.5, -2], order), "n": np.array([7])}), "any")
    assert state["a"].dtype == torch.float32
    assert state["a"].tolist() == [0.5, -2]
    assert state["n"].tolist() == [7]


class _Forged:
    """An array of one object, whose pointer is in the file: what NumPy's own `_reconstruct` would make of it."""

    def __reduce__(self) -> Any:
        return np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (1,), _ForgedDtype(), False, b"A" * 8)


class _ForgedDtype:
    def __reduce__(self) -> Any:
        return np.dtype, ("O", False, True), (3, "|", None, None, None, 8, 8, 0)


def test_a_forged_dtype_makes_no_objects_of_bytes(tmp_path: Path) -> None:
    assert_is_weights(load_state_dict(saved(tmp_path, {"iter": _Forged(), "g": WEIGHTS}), "any"))


def test_an_array_of_another_size_than_it_says_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": np.arange(3.0)}, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"K\x01K\x03\x85", b"K\x01K\x04\x85"))
    with pytest.raises(CheckpointError, match=r"an array of float64 \[4\] has 24 bytes"):
        load_state_dict(path, "any")


def test_nothing_stays_allowed(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())  # listed in any order
    load_state_dict(saved(tmp_path, {"iter": np.float64(3), "g": WEIGHTS}), "any")
    assert set(torch.serialization.get_safe_globals()) == before


class _Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (eval, "eval"),
        (np.load, "numpy.load"),
        (np.fromfile, "numpy.fromfile"),
        (torch.load, "torch.serialization.load"),
        (getattr, "getattr"),
        (open, "io.open"),
    ],
)
def test_code_is_called_by_its_name(function: Callable[..., Any], name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, {"iter": _Call(function, "x"), "g": WEIGHTS})
    with pytest.raises(CheckpointError, match=rf"wants to run code \(.*{name}\).*nothing was run"):
        load_state_dict(path, "any")


def packed(kind: str, folder: Path) -> Path:
    """A file that people take for a checkpoint."""
    path, whole = folder / "weights.pth", saved(folder).read_bytes()
    match kind:
        case "export":
            program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.export.save(program, folder / "program.pt2")
            (folder / "program.pt2").rename(path)
        case "zip of a checkpoint":
            with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
                archive.writestr("model/weights.pth", whole)
            (folder / "outer.zip").rename(path)
        case "tar":
            with tarfile.open(folder / "outer.tar", "w") as archive:
                archive.add(path, "weights.pth")
            (folder / "outer.tar").rename(path)
        case "saved model":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("model/saved_model.pb", b"\x08\x01\x12")
        case "npz":
            np.savez(folder / "arrays.npz", a=np.ones(2))
            (folder / "arrays.npz").rename(path)
        case "office":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("word/document.xml", "")
        case "protocol 4":
            torch.save(WEIGHTS, path, pickle_protocol=4)
        case "onnx":
            from onnx import save

            save(onnx_graphs.box_filter(), path)
        case "hdf5":
            import h5py

            with h5py.File(path, "w") as file:
                file["a"] = np.ones(2)
        case "frozen graph":
            frozen_graphs.write_small(path)
        case "quantized":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch calls quantized tensors deprecated
                torch.save({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, path)
        case _:
            contents = {
                "cut off": whole[:-40],
                "gzip": gzip.compress(whole),
                "zeros": bytes(5000),
                "not found": b"404: Not Found",
                "xml": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
                "openvino": b'<?xml version="1.0"?>\n<net name="Model0" version="11">',
                "index": b'{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}',
                "json": b'{"error": "Entry not found", "status": 404}',
                "gguf": b"GGUF\x03\x00\x00\x00" + bytes(100),
                "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
                "pickle": pickle.dumps({"a": 1}, protocol=2),
            }
            path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("export", "is a program of torch.export"),
        ("zip of a checkpoint", r"is a packed archive, .*: unpack it.*\(model/weights.pth\)"),
        ("tar", "is a packed archive"),
        ("gzip", "is a packed archive"),
        ("saved model", "is a packed SavedModel"),
        ("npz", "is a file of NumPy arrays"),
        ("office", r"is a zip archive \(of word/document.xml\)"),
        ("protocol 4", "newer protocol than torch.save uses .protocol 4"),
        ("onnx", "is an ONNX graph"),
        ("hdf5", "is an HDF5 file"),
        ("frozen graph", "is a frozen TensorFlow graph"),
        ("quantized", r"w is not a plain tensor \(quantized\)"),
        ("cut off", "only a part of one.*the end of its archive is missing"),
        ("zeros", "is empty at its beginning"),
        ("not found", "is a text"),
        ("xml", "is a web page"),
        ("openvino", "is an OpenVINO network"),
        ("index", "is the index of a checkpoint in several files"),
        ("json", "is a text"),
        ("gguf", "is a GGUF file"),
        ("png", "is a picture"),
        ("pickle", "Invalid magic number"),
    ],
)
def test_the_true_cause_is_named(kind: str, match: str, tmp_path: Path) -> None:
    path = packed(kind, tmp_path)
    with pytest.raises(CheckpointError, match=match) as error:
        load_state_dict(path, "any")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [6_750_000_000], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]},
        {"dtype": "X", "shape": [4], "data_offsets": [0, 16]},
        ["F32"],
    ],
)
def test_a_safetensors_header_that_lies_is_refused(entry: Any, tmp_path: Path) -> None:
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(CheckpointError, match="is not a safetensors file, or only a part of one"):
        load_state_dict(path, "any")
