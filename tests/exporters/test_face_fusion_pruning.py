"""The pruned fusion generator: its groups hold together, its spectral norms survive, its export gives its levels."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cameo.errors import CheckpointError
from exporters import trainable
from tests.support.onnx_graphs import opened
from tests.support.onnx_graphs import run as run_onnx
from tests.support.silence import silence

torch = pytest.importorskip("torch")

from compress.pruning.channels import Ratios, choose, prune  # noqa: E402
from compress.pruning.cost import macs, parameters  # noqa: E402
from compress.pruning.groups import ChannelGroup  # noqa: E402
from compress.pruning.importance import group_l2, taylor  # noqa: E402
from compress.recovery.feeds import in_torch  # noqa: E402
from compress.recovery.losses import Lesson, kept_channels  # noqa: E402
from exporters.face_fusion.channels import generator_groups, normalised  # noqa: E402
from exporters.face_fusion.export import exporter  # noqa: E402
from exporters.face_fusion.export_generator import load_generator  # noqa: E402
from exporters.face_fusion.network import Architecture, FusionGenerator  # noqa: E402
from exporters.face_fusion.original import open_original  # noqa: E402
from exporters.face_fusion.training_form import folded, unfolded  # noqa: E402
from tests.exporters.test_face_fusion import NAME, NARROW, SIZE, feeds_of, generator  # noqa: E402
from tests.support.filled_networks import save_checkpoint  # noqa: E402

SAME = 0.05  # levels of 255; rounding of sums in another order, which the normalisations raise
FORM = trainable(NAME).form


@pytest.fixture(scope="module")
def faithful() -> Any:
    return generator(NARROW)


@pytest.fixture(scope="module")
def network(faithful: Any) -> Any:
    return folded(deepcopy(faithful))


@pytest.fixture(scope="module")
def feeds() -> Any:
    return in_torch([feeds_of(1)])


@pytest.fixture(scope="module")
def drawn(faithful: Any, feeds: Any) -> Any:
    return levels(faithful, feeds)


def levels(network: Any, feeds: Any) -> Any:
    with torch.no_grad():
        return FORM.run(network, feeds)


def permuted(state: Any, groups: tuple[ChannelGroup, ...]) -> dict[str, Any]:
    """The state dict with the channels of every group in another order."""
    orders: dict[tuple[str, int], list[int]] = {}
    for number, group in enumerate(groups):
        order = torch.randperm(group.channels, generator=torch.Generator().manual_seed(number)).tolist()
        for member in group.members:
            key = (member.key, member.axis)
            places = orders.setdefault(key, list(range(state[member.key].shape[member.axis])))
            for place, taken in zip(member.places(range(group.channels)), member.places(order), strict=True):
                places[place] = taken
    found = dict(state)
    for (key, axis), places in orders.items():
        found[key] = found[key].index_select(axis, torch.tensor(places))
    return found


def test_the_training_form_draws_the_same(network: Any, feeds: Any, drawn: Any) -> None:
    assert (levels(network, feeds) - drawn).abs().max() < SAME
    again = FusionGenerator(network.architecture)
    again.load_state_dict(unfolded(network))
    assert (levels(again.eval(), feeds) - drawn).abs().max() < SAME


def test_the_order_of_channels_counts_for_nothing(network: Any, feeds: Any, drawn: Any) -> None:
    """Every channel is with all that belongs to it, those too that are normalised over, which no silence can show."""
    groups = FORM.groups(network)
    state = permuted(network.state_dict(), groups)
    assert (levels(FORM.rebuild(state), feeds) - drawn).abs().max() < SAME
    for left_out in ("drawn_1", "encoder_5", "motion_up_1"):
        state = permuted(network.state_dict(), tuple(g for g in groups if g.name != left_out))
        assert (levels(FORM.rebuild(state), feeds) - drawn).abs().max() < SAME, "the others stand alone"
    broken = [ChannelGroup(g.name, g.channels, g.members[:-1]) for g in groups]
    state = permuted(network.state_dict(), tuple(broken))
    assert (levels(FORM.rebuild(state), feeds) - drawn).abs().max() > 10, "the comparisons above can fail"


def test_removing_is_silencing_where_nothing_is_normalised(network: Any, feeds: Any, drawn: Any) -> None:
    groups = FORM.groups(network)
    kept = choose(groups, Ratios(0.4, {"drawn_*": 0, "inner_*": 0}, 1), group_l2(network, groups))
    assert all(len(kept[g.name]) == g.channels for g in groups if normalised(g.name))
    removed = levels(FORM.rebuild(prune(network.state_dict(), groups, kept)), feeds)
    silenced = levels(FORM.rebuild(silence(network.state_dict(), groups, kept)), feeds)
    assert (removed - silenced).abs().max() < SAME
    assert (removed - drawn).abs().max() > 1  # or nothing was tested


@pytest.mark.slow
def test_every_group_alone_can_be_pruned(network: Any) -> None:
    """No tensor is left between two widths: the narrow network loads, and says its widths."""
    groups = FORM.groups(network)
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        kept = {other.name: tuple(range(other.channels - (other is group))) for other in groups}
        narrow: Any = FORM.rebuild(prune(network.state_dict(), groups, kept))
        assert {g.name: g.channels for g in FORM.groups(narrow)} == {name: len(left) for name, left in kept.items()}


@pytest.mark.slow
def test_both_importances_and_features_know_all_channels(network: Any, feeds: Any) -> None:
    groups = FORM.groups(network)
    for found in (taylor(network, lambda x: FORM.run(network, x), groups, [feeds]), group_l2(network, groups)):
        assert {name: len(values) for name, values in found.items()} == {g.name: g.channels for g in groups}
        assert all(torch.isfinite(values).all() and values.max() > 0 for values in found.values())
    kept = choose(groups, Ratios(0.3, multiple=1), group_l2(network, groups))
    narrow: Any = FORM.rebuild(prune(network.state_dict(), groups, kept))
    lesson = Lesson(
        deepcopy(network).requires_grad_(False), narrow, FORM.run, kept_channels(FORM.features(network), kept)
    )
    lesson.loss(feeds, 0).backward()
    learning = {key: p for key, p in narrow.named_parameters() if p.requires_grad}
    assert not any(key.endswith(("weight_u", "weight_v")) for key in learning)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning.values())


def test_a_third_less_is_half_the_parameters_of_the_published_one() -> None:
    """30 % of the channels: counted on the published shapes, without weights."""
    with torch.device("meta"):
        whole = FusionGenerator(Architecture())
    groups = generator_groups(whole.architecture)
    kept = {g.name: tuple(range(int(g.channels * 0.7) // 8 * 8)) for g in groups}
    pruned = FORM.rebuild(
        prune({k: torch.zeros(()).expand(v.shape) for k, v in whole.state_dict().items()}, groups, kept)
    )
    feeds = in_torch([feeds_of(1)])
    assert parameters(pruned) / parameters(whole) == pytest.approx(0.4927, abs=0.001)
    assert macs(pruned, FORM.run, feeds) / macs(whole, FORM.run, feeds) == pytest.approx(0.434, abs=0.005)


@pytest.fixture(scope="module")
def narrow(network: Any) -> Any:
    """Of 70 % of the channels, so that no two widths are those of the whole one."""
    groups = FORM.groups(network)
    kept = choose(groups, Ratios(0.3, multiple=1), group_l2(network, groups))
    return FORM.rebuild(prune(network.state_dict(), groups, kept))


@pytest.fixture(scope="module")
def checkpoint(narrow: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pruned") / "narrow.pt"
    FORM.save(narrow, path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> tuple[Path, dict[str, Any]]:
    out = checkpoint.with_name("model.onnx")
    return out, dict(exporter(NAME).run(checkpoint, out))


def test_a_pruned_generator_is_a_checkpoint_that_export_reads(
    narrow: Any, checkpoint: Path, exported: Any, feeds: Any
) -> None:
    wanted = levels(narrow, feeds)
    assert (levels(load_generator(checkpoint, NAME), feeds) - wanted).abs().max() < SAME
    assert (levels(FORM.load(checkpoint), feeds) - wanted).abs().max() < SAME
    assert exported[1]["parameters"] == parameters(narrow)
    (fused,) = run_onnx(onnx.load(exported[0]), feeds_of(1))
    drawn = (wanted.clamp(0, 255) + 0.5).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    assert np.abs(fused.astype(int) - drawn).max() <= 1


def test_exported_graph_gives_the_originals_levels(checkpoint: Path, exported: Any) -> None:
    fuses, original = opened(onnx.load(exported[0])), open_original(NAME, checkpoint)
    for batch in (1, 3):
        feeds = feeds_of(batch)
        expected = original.run(feeds)["result"].astype(int)
        (result,) = fuses(feeds)
        assert result.shape == (batch, SIZE, SIZE, 3)
        assert expected.std() > 20
        assert np.abs(result - expected).max() <= 1
        assert (result != expected).mean() < 1e-3
    for name, other in feeds_of(2).items():
        (changed,) = fuses({**feeds, name: np.roll(feeds[name], 1, axis=0)})
        assert np.abs(changed - expected).max() > 1, f"{name} matters"
        assert other.shape[0] == 2


def test_exported_graph_has_constant_weights_and_its_edges(narrow: Any, exported: Any) -> None:
    graph, facts = onnx.load(exported[0]).graph, exported[1]
    constants = {initializer.name for initializer in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) > 100
    assert all(node.input[1] in constants for node in convolutions)
    assert facts["parameters"] == sum(parameter.numel() for parameter in narrow.parameters())
    edges = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert edges == {
        "image": ["N", SIZE, SIZE, 3],
        "identity": ["N", 512],
        "keypoints_fused": ["N", 17, 2],
        "keypoints_target": ["N", 17, 2],
        "result": ["N", SIZE, SIZE, 3],
    }


def test_another_network_or_a_student_is_told(tmp_path: Path, network: Any) -> None:
    other = save_checkpoint(torch.nn.Linear(2, 2), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="fusion-generator"):
        FORM.load(other)
    with pytest.raises(CheckpointError, match="no depthwise-separable student"):
        FORM.separated(network)
