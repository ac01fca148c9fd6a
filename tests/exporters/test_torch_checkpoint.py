"""Checkpoints are read as data: every usual packing, and one sentence for everything that is not weights."""

import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cameo.errors import CheckpointError, OutputError
from exporters.checkpoints.kinds import looks_like
from exporters.checkpoints.torch_checkpoint import check_keys, load_state_dict, save_checkpoint
from tests.support.golden import published_keys

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([0.5])}


class Attack:
    """Runs a command where pickles are run."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in WEIGHTS.items()}


def saved(folder: Path, content: Any, name: str = "weights.pth", **options: Any) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def safetensors(path: Path, tensors: dict[str, torch.Tensor], padding: int = 0) -> Path:
    """Written by hand from the format's specification."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for key, tensor in tensors.items():
        raw = tensor.numpy().tobytes()
        dtype = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}[tensor.dtype]
        offsets = [len(data), len(data) + len(raw)]
        header[key] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode() + b" " * padding
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def assert_is_weights(state: dict[str, torch.Tensor]) -> None:
    assert list(state) == list(WEIGHTS)
    for key, tensor in WEIGHTS.items():
        assert torch.equal(state[key], tensor)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"g_ema": WEIGHTS, "g": {}, "d": {"x": torch.ones(1)}, "g_optim": {"lr": 0.1}},
        {"params_ema": WEIGHTS, "params": {"x": torch.ones(1)}},
        {"net_recon": WEIGHTS},
        {"epoch": 3, "state_dict": prefixed("module.")},
        {"state_dict": prefixed("module.model.")},
        prefixed("_orig_mod.module."),
        {**prefixed("g_ema."), "d.x": torch.ones(1)},
    ],
    ids=["bare", "g_ema", "params_ema", "net_recon", "module", "module.model", "compiled", "trainer"],
)
def test_every_packing_gives_the_same_weights(content: Any, tmp_path: Path) -> None:
    assert_is_weights(load_state_dict(saved(tmp_path, content), "any"))


def test_old_and_new_formats(tmp_path: Path) -> None:
    assert_is_weights(load_state_dict(saved(tmp_path, WEIGHTS, _use_new_zipfile_serialization=False), "any"))
    for padding in range(4):  # tensors may begin at any byte
        assert_is_weights(load_state_dict(safetensors(tmp_path / "w.safetensors", WEIGHTS, padding), "any"))
    misnamed = safetensors(tmp_path / "w.pth", prefixed("module."))
    assert_is_weights(load_state_dict(misnamed, "any"))


def test_half_weights_become_float32_and_integers_stay(tmp_path: Path) -> None:
    content = {"w": torch.tensor([0.5, -2]).half(), "n": torch.tensor(7)}
    for path in (saved(tmp_path, content), safetensors(tmp_path / "w.safetensors", content)):
        state = load_state_dict(path, "any")
        assert state["w"].dtype == torch.float32
        assert state["w"].tolist() == [0.5, -2]
        assert state["n"].dtype == torch.int64
        assert state["n"].item() == 7


@pytest.mark.parametrize("packing", ["torch", "bare pickle"])
def test_code_is_not_run(packing: str, tmp_path: Path) -> None:
    proof = tmp_path / "was-run"
    attack = {"w": Attack(f"touch {proof}")}
    path = tmp_path / "weights.pth"
    if packing == "torch":
        torch.save(attack, path)
    else:
        path.write_bytes(pickle.dumps(attack, protocol=2))
    with pytest.raises(CheckpointError, match="wants to run code .*system.*nothing was run"):
        load_state_dict(path, "any")
    assert not proof.exists()
    pickle.loads(pickle.dumps(attack))
    assert proof.exists(), "the attack works where pickles are run"


def damaged(kind: str, folder: Path) -> Path:
    path = folder / "weights.pth"
    whole = saved(folder, WEIGHTS).read_bytes()
    match kind:
        case "missing":
            path.unlink()
        case "folder":
            path.unlink()
            path.mkdir()
        case "half a safetensors":
            path = folder / "weights.safetensors"
            whole = safetensors(path, WEIGHTS).read_bytes()
            path.write_bytes(whole[:-4])
        case "module":
            torch.save(torch.nn.Linear(2, 2), path)
        case "torchscript":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch calls its own format deprecated
                torch.jit.script(torch.nn.Linear(2, 2)).save(path)
        case "not a state dict":
            torch.save({"epoch": 3}, path)
        case "tensor":
            torch.save(torch.ones(2), path)
        case "sparse":
            torch.save({"w": torch.eye(3).to_sparse()}, path)
        case _:
            contents = {
                "empty": b"",
                "half": whole[: len(whole) // 2],
                "noise": np.random.default_rng(0).bytes(5000),
                "web page": b"\n<!DOCTYPE html><html>404</html>",
                "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
                "safetensors of nonsense": (2**40).to_bytes(8, "little") + b'{"w": 1}',
            }
            path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("missing", "there is no file"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("half", "only a part of one"),
        ("noise", "is not a PyTorch checkpoint"),
        ("web page", "is a web page"),
        ("git-lfs", "git lfs pull"),
        ("half a safetensors", "only a part of one"),
        ("safetensors of nonsense", "is not a safetensors file"),
        ("module", "wants to run code .*Linear"),
        ("torchscript", "is a TorchScript archive .torch.jit.save."),
        ("not a state dict", "holds no state dict of any .it holds: epoch"),
        ("tensor", "it holds: Tensor"),
        ("sparse", "w is not a plain tensor .torch.float32, torch.sparse_coo"),
    ],
)
def test_what_is_not_weights_is_told_in_one_sentence(kind: str, match: str, tmp_path: Path) -> None:
    path = damaged(kind, tmp_path)
    with pytest.raises(CheckpointError, match=match) as error:
        load_state_dict(path, "any")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    path = saved(tmp_path, {**WEIGHTS, "b.weight": torch.tensor([1.0, value])})
    with pytest.raises(CheckpointError, match="b.weight has 1 of 2 values that are NaN or infinite"):
        load_state_dict(path, "any")


def test_keys_and_shapes_are_checked_with_examples() -> None:
    check_keys(WEIGHTS, {"a.weight": (2, 3), "a.bias": (1,)}, "any")
    expected = {"a.weight": (2, 4), "c": (1,), "d": (1,), "e": (1,), "f": (1,)}
    with pytest.raises(CheckpointError) as error:
        check_keys(WEIGHTS, expected, "retinaface-r50", Path("w.pth"))
    message = str(error.value)
    assert "w.pth does not fit retinaface-r50" in message
    assert "4 are missing (c, d, e, ...)" in message
    assert "1 is unexpected (a.bias)" in message
    assert "1 is of another shape (a.weight is [2, 3] instead of [2, 4])" in message


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("gpen512_n1_c2", "GPEN generator of size 512 with 64 channels"),
        ("gpen_sr128to256_n05_c1", "sizes 128 in, 256 out"),
        ("retinaface_r50", "RetinaFace"),
        ("parsenet", "ParseNet"),
        ("rrdbnet_x1", "RealESRNet .RRDBNet. x1"),
        ("rrdbnet_x2", "x2"),
        ("rrdbnet_x4", "x4"),
        ("aei_net", "face fusion"),
        ("curricularface_ir100", "CurricularFace"),
        ("recon_resnet50", "3-D face"),
        ("dctnet_generator", "DCT-Net"),
    ],
)
def test_known_networks_are_recognised(keys: str, words: str) -> None:
    import re

    assert re.search(words, looks_like(published_keys(keys)))


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    save_checkpoint({"state_dict": WEIGHTS}, tmp_path / "weights.pt")
    found = load_state_dict(tmp_path / "weights.pt", "gpen-bfr-512")
    assert all(torch.equal(found[key], tensor) for key, tensor in WEIGHTS.items())
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize("place", ["nowhere/weights.pt", "file/weights.pt", "folder"])
def test_what_cannot_be_written_is_told_and_nothing_is_left(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=f"cannot write .*{place} .*check the folder"):
        save_checkpoint(WEIGHTS, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
