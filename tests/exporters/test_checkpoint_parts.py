"""Training files hold several sets of weights: the averaged are taken, or those that are named; nothing is guessed."""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from cameo.errors import CheckpointError
from exporters.checkpoints.torch_checkpoint import load_state_dict

RAW = {"a.weight": torch.tensor([1.0, 2.0]), "a.bias": torch.tensor([3.0])}
AVERAGED = {key: tensor + 0.5 for key, tensor in RAW.items()}
REALESRNET = {"conv_first.weight": torch.zeros(8, 3, 3, 3), "body.0.rdb1.conv1.weight": torch.zeros(4, 8, 3, 3)}
DISCRIMINATOR = {"convs.0.0.weight": torch.zeros(1, 1), "final_linear.0.weight": torch.zeros(1, 1)}


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def load(content: Any, folder: Path, network: str = "any", part: str = "") -> dict[str, torch.Tensor]:
    torch.save(content, folder / "weights.pth")
    return load_state_dict(folder / "weights.pth", network, part)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


PACKINGS = {
    "ema_state_dict": {"state_dict": RAW, "ema_state_dict": AVERAGED},
    "state_dict_ema": {"state_dict": RAW, "state_dict_ema": AVERAGED},
    "model_ema": {"model": RAW, "model_ema": AVERAGED, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    "params_ema": {"params": RAW, "params_ema": AVERAGED},
    "g_ema": {"g": RAW, "g_ema": AVERAGED, "g_optim": {"param_groups": []}},
    "ema": {"net": RAW, "ema": AVERAGED},
    "EMA": {"net": RAW, "EMA": AVERAGED},
    "ema_0.9999": {"net": RAW, "ema_0.9999": AVERAGED},
    "ema.state_dict": {"state_dict": RAW, "ema": {"state_dict": AVERAGED, "decay": 0.999}},
    "model.ema": {"model": {"raw": RAW, "ema": AVERAGED}},
    "callbacks.EMA.weights": {"state_dict": RAW, "callbacks": {"EMA": {"weights": AVERAGED}}},
    "swa": {"state_dict": RAW, "swa": {"n_averaged": torch.tensor(3), **prefixed("module.", AVERAGED)}},
    "average": {"net": RAW, "average": {"n_averaged": torch.tensor(3), **prefixed("module.", AVERAGED)}},
    "flat": {**prefixed("g.", RAW), **prefixed("g_ema.", AVERAGED), **prefixed("d.", RAW)},
    "flat beside bare": {**RAW, **prefixed("ema.", AVERAGED)},
    "flat in state_dict": {"state_dict": {**prefixed("net.", RAW), **prefixed("net_ema.module.", AVERAGED)}},
    "wrapped": {"state_dict": prefixed("module.", RAW), "ema_state_dict": prefixed("module.", AVERAGED)},
    "ordered": OrderedDict(params=OrderedDict(RAW), params_ema=OrderedDict(AVERAGED)),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_averaged_weights_are_taken_and_it_is_said(
    packing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert_equal(load(PACKINGS[packing], tmp_path), AVERAGED)
    notes = [record.note for record in caplog.records if hasattr(record, "note")]
    assert len(notes) == 1
    assert "the averaged weights" in notes[0]
    assert "--part chooses" in notes[0]


@pytest.mark.parametrize(
    ("packing", "part"),
    [
        ("ema_state_dict", "state_dict"),
        ("model.ema", "model.raw"),
        ("flat", "g"),
        ("flat beside bare", "."),
        ("flat in state_dict", "state_dict.net"),
        ("wrapped", "state_dict"),
        ("callbacks.EMA.weights", "state_dict"),
    ],
)
def test_a_part_is_named(packing: str, part: str, tmp_path: Path) -> None:
    assert_equal(load(PACKINGS[packing], tmp_path, part=part), RAW)


def test_a_part_that_is_a_folder_of_parts_is_looked_into(tmp_path: Path) -> None:
    assert_equal(load({"x": RAW, "model": {"raw": RAW, "ema": AVERAGED}}, tmp_path, part="model"), AVERAGED)


@pytest.mark.parametrize(
    "content",
    [
        {"first": RAW, "second": AVERAGED},
        {"state_dict": RAW, "params": AVERAGED},
        {"ema_0.99": RAW, "ema_0.999": AVERAGED},
        {"net": RAW, "ema": dict(RAW), "swa": AVERAGED},
    ],
    ids=["none averaged", "two usual names", "two averaged", "two averages"],
)
def test_what_is_ambiguous_is_refused_and_listed(content: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="does not say which of its 2 sets of weights is to serve as any"
    ) as error:
        load(content, tmp_path)
    listed = [name for name in content if name != "net"]
    assert all(f"'{name}' (a network unknown here (2 keys: a.weight, a.bias" in str(error.value) for name in listed)
    assert f"--part {listed[0]}" in str(error.value)


def test_a_wrong_part_is_refused_and_the_right_ones_listed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no part 'x': it holds 'params' .*, 'params_ema' .*choose one"):
        load(PACKINGS["params_ema"], tmp_path, part="x")


@pytest.mark.parametrize("name", ["netG", "generator", "g"])
def test_other_networks_beside_it_are_no_rivals(name: str, tmp_path: Path) -> None:
    content = {"d": DISCRIMINATOR, "d_ema": DISCRIMINATOR, name: REALESRNET, "iter": torch.tensor(3)}
    assert_equal(load(content, tmp_path, "realesrnet-x4"), REALESRNET)
    flat = {"state_dict": {**prefixed("d.", DISCRIMINATOR), **prefixed(f"{name}.", REALESRNET)}}
    assert_equal(load(flat, tmp_path, "realesrnet-x4"), REALESRNET)


@pytest.mark.parametrize(
    "average",
    [
        {"shadow_params": [torch.zeros(8), torch.zeros(4)], "decay": 0.999},
        {"conv_firstweight": torch.zeros(8, 3, 3, 3), "body0rdb1conv1weight": torch.zeros(4)},
    ],
    ids=["a list", "names without dots"],
)
def test_averaged_weights_in_another_spelling_are_not_passed_over(average: Any, tmp_path: Path) -> None:
    content = {"state_dict": REALESRNET, "ema": average}
    with pytest.raises(CheckpointError, match="'state_dict' .RealESRNet .RRDBNet. x4., 'ema"):
        load(content, tmp_path, "realesrnet-x4")
    assert_equal(load(content, tmp_path, "realesrnet-x4", "state_dict"), REALESRNET)


def test_an_optimizer_is_called_one(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    with pytest.raises(CheckpointError, match="is the state of an optimizer, not the weights of any"):
        load(optimizer.state_dict(), tmp_path)
