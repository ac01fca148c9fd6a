"""Every family that can be pruned: its groups are right, its checkpoints go to torch and back, wrong files are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cameo.errors import CheckpointError
from compress.trainable import Trainable
from exporters import trainable, trainable_networks
from tests.support import fill, frozen_graphs
from tests.support.onnx_graphs import run as run_onnx
from tests.support.silence import silence

torch = pytest.importorskip("torch")
pytest.importorskip("tensorflow")

from compress.pruning.channels import Ratios, choose, prune  # noqa: E402
from compress.pruning.cost import macs, parameters  # noqa: E402
from compress.pruning.groups import ChannelGroup, Kept  # noqa: E402
from compress.pruning.importance import group_l2, taylor  # noqa: E402
from compress.recovery.feeds import in_torch  # noqa: E402
from compress.recovery.losses import Lesson, kept_channels  # noqa: E402
from exporters.dctnet.export import exporter as dctnet_exporter  # noqa: E402
from exporters.dctnet.network import Generator  # noqa: E402
from exporters.gpen import export as gpen  # noqa: E402
from exporters.gpen.network import Architecture, FullGenerator  # noqa: E402
from exporters.gpen.trainable import generator_groups  # noqa: E402
from tests.support.filled_networks import filled, save_checkpoint  # noqa: E402

SIDE = 32
SAME = 1e-5  # of images around [-1, 1]; in levels, times 127.5


def small_dctnet() -> Generator:
    return Generator.from_variables(fill.fill_state_dict(frozen_graphs.small_shapes())).eval()


def small_gpen(size: int = SIDE, **arguments: Any) -> FullGenerator:
    plan = Architecture.of(size, narrow=0.0625, channel_multiplier=1, style_dim=32, **arguments)
    return filled(FullGenerator.without_weights(plan).to_empty(device="cpu"))


def dctnet_form() -> tuple[Trainable, Any]:
    return trainable("dctnet-head").form, small_dctnet()


def gpen_form() -> tuple[Trainable, Any]:
    return trainable("gpen-bfr-256").form, small_gpen()


FORMS = {"dctnet": dctnet_form, "gpen": gpen_form}
forms = pytest.mark.parametrize("family", FORMS)


def photos(name: str, batch: int = 1) -> dict[str, Any]:
    levels = torch.tensor(fill.image_u8(name, SIDE, SIDE * batch)).float().view(SIDE, batch, SIDE, 3)
    return {"image": levels.permute(1, 3, 0, 2)}


def some(groups: tuple[ChannelGroup, ...]) -> Kept:
    """About two thirds of every group, other channels in each."""
    kept = {}
    for index, group in enumerate(groups):
        random = torch.Generator().manual_seed(index)
        kept[group.name] = tuple(
            sorted(torch.randperm(group.channels, generator=random)[: group.channels * 2 // 3].tolist())
        )
    return kept


def test_every_family_is_tested() -> None:
    """Face fusion's is normalised over channels, where silence is no proof: test_face_fusion_pruning.py."""
    assert {name.split("-")[0] for name in trainable_networks()} == {*FORMS, "fusion"}


@forms
def test_removing_channels_is_silencing_them(family: str) -> None:
    form, network = FORMS[family]()
    groups, image = form.groups(network), photos("trainable/x", 2)
    kept, state = some(groups), network.state_dict()
    with torch.no_grad():
        original = form.run(network, image)
        removed = form.run(form.rebuild(prune(state, groups, kept)), image)
        silenced = form.run(form.rebuild(silence(state, groups, kept)), image)
    assert (removed - silenced).abs().max() < SAME * 127.5
    assert (removed - original).abs().max() > 1  # or nothing was tested


@forms
def test_groups_cover_every_width(family: str) -> None:
    """Each group alone can be pruned, and no tensor is left between two widths: the narrow network loads and runs."""
    form, network = FORMS[family]()
    groups = form.groups(network)
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        kept = {other.name: tuple(range(other.channels - 3 * (other is group))) for other in groups}
        narrow = form.rebuild(prune(network.state_dict(), groups, kept))
        assert form.run(narrow, photos("trainable/x")).shape == (1, 3, SIDE, SIDE)


def test_noise_above_the_encoder_goes_with_the_channel_beside_it() -> None:
    network = small_gpen(in_size=16)
    groups = generator_groups(network.architecture)
    kept, state = some(groups), network.state_dict()
    image, noise = torch.tensor(fill.uniform("sr/x", (1, 3, 16, 16))), network.draw_noise(1)
    left = [n[:, list(kept[name])] for n, name in zip(noise, ("generator_32_up", "generator_32"), strict=True)]
    with torch.no_grad():
        removed = FullGenerator.from_state_dict(prune(state, groups, kept))(image, left)
        silenced = FullGenerator.from_state_dict(silence(state, groups, kept))(image, noise)
    assert (removed - silenced).abs().max() < SAME


@forms
def test_both_importances_know_all_channels(family: str) -> None:
    form, network = FORMS[family]()
    groups = form.groups(network)
    by_image = taylor(network, lambda x: form.run(network, x), groups, [photos("trainable/x")])
    for found in (by_image, group_l2(network, groups)):
        assert {name: len(values) for name, values in found.items()} == {g.name: g.channels for g in groups}
        assert all(torch.isfinite(values).all() and values.max() > 0 for values in found.values())


@forms
def test_taylor_ranks_channels_by_what_their_loss_does_to_the_image(family: str) -> None:
    """In every group: the channels that the image misses most are those that first-order importance names.

    They are silenced, which is to remove them (see above) without a network of its own for each.
    """
    form, network = FORMS[family]()
    state = network.state_dict()
    without = form.rebuild(state)
    groups, image = form.groups(network), photos("trainable/x")
    found = taylor(network, lambda x: form.run(network, x), groups, [image] * 8)
    agreement = []
    with torch.no_grad():
        original = form.run(network, image)
        for group in groups:
            changes = []
            for lost in range(group.channels):
                kept = {g.name: tuple(c for c in range(g.channels) if g is not group or c != lost) for g in groups}
                without.load_state_dict(silence(state, groups, kept))
                changes.append(float((form.run(without, image) - original).norm()))
            ranks = [np.argsort(np.argsort(values)) for values in (changes, found[group.name].numpy())]
            agreement.append(float(np.corrcoef(*ranks)[0, 1]))
    assert np.median(agreement) > 0.7
    assert min(agreement) > 0.2


@forms
def test_a_lesson_compares_all_features(family: str) -> None:
    form, network = FORMS[family]()
    groups, kept = form.groups(network), some(form.groups(network))
    channels = kept_channels(form.features(network), kept)
    network.requires_grad_(False)
    twin = form.rebuild({key: tensor.clone() for key, tensor in network.state_dict().items()})
    everything = kept_channels(form.features(network), {g.name: tuple(range(g.channels)) for g in groups})
    narrow = form.rebuild(prune(network.state_dict(), groups, kept))
    image = photos("trainable/x")
    assert Lesson(network, twin, form.run, everything).loss(image, 0) < 0.02
    loss = Lesson(network, narrow, form.run, channels).loss(image, 0)
    loss.backward()
    assert loss > Lesson(network, narrow, form.run, channels).loss(image, 1)
    assert all(torch.isfinite(p.grad).all() for p in narrow.parameters() if p.grad is not None)


@forms
def test_cost_falls_with_the_square_of_the_width(family: str) -> None:
    form, network = FORMS[family]()
    kept = some(form.groups(network))
    narrow = form.rebuild(prune(network.state_dict(), form.groups(network), kept))
    feeds = photos("trainable/x")
    assert 0.3 < parameters(narrow) / parameters(network) < 0.7
    assert 0.3 < macs(narrow, form.run, feeds) / macs(network, form.run, feeds) < 0.7


def test_multiplications_of_the_published_network_are_known() -> None:
    """64.6 GMAC at 720x720 by hand (NOTES of the networks): 124,608 per pixel, without the guided filter."""
    from exporters.dctnet.frozen_form import published_shapes

    assert (
        macs(Generator(published_shapes()), lambda n, x: n(x["image"]), {"image": torch.zeros(1, 3, 64, 64)})
        == 124_608 * 64 * 64
    )


# --- checkpoints


def test_a_pruned_generator_is_a_frozen_graph_again(tmp_path: Path) -> None:
    """TensorFlow graph -> torch -> pruned -> TensorFlow graph -> ONNX: the same picture as the silenced network's."""
    form = trainable("dctnet-background").form
    network = form.load(frozen_graphs.write_small(tmp_path / "whole.pb"))
    groups = form.groups(network)
    kept = choose(groups, Ratios(0.5), group_l2(network, groups))
    narrow = form.rebuild(prune(network.state_dict(), groups, kept))
    form.save(narrow, tmp_path / "narrow.pb")
    again = form.load(tmp_path / "narrow.pb")
    assert all(torch.equal(tensor, narrow.state_dict()[key]) for key, tensor in again.state_dict().items())
    facts = dctnet_exporter("dctnet-background").run(tmp_path / "narrow.pb", tmp_path / "narrow.onnx")
    assert facts["tensorflow_nodes"] == 232
    image = fill.image_u8("trainable/x", SIDE, SIDE)
    (drawn,) = run_onnx(onnx.load(tmp_path / "narrow.onnx"), {"image": image[None]})
    silenced = form.rebuild(silence(network.state_dict(), groups, kept))
    with torch.no_grad():
        wanted = form.run(silenced, in_torch([{"image": image[None]}])).permute(0, 2, 3, 1)
    difference = np.abs(drawn.astype(int) - wanted.numpy().astype(np.uint8))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_a_graph_that_draws_something_else_is_refused(tmp_path: Path) -> None:
    """The right names and shapes, but another slope in the activations: torch would prune another network."""
    graph = frozen_graphs.read(frozen_graphs.write_small(tmp_path / "whole.pb"))
    for node in graph.node:
        if node.op == "LeakyRelu":
            node.attr["alpha"].f = 0.1
    (tmp_path / "other.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(CheckpointError, match=r"other.pb has DCT-Net's weights but draws something else"):
        trainable("dctnet-head").form.load(tmp_path / "other.pb")


def test_a_graph_that_could_do_harm_is_not_run(tmp_path: Path) -> None:
    graph = frozen_graphs.read(frozen_graphs.write_small(tmp_path / "whole.pb"))
    graph.node.add(name="evil", op="ReadFile")
    (tmp_path / "evil.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(CheckpointError, match="ReadFile.*nothing of it was run"):
        trainable("dctnet-head").form.load(tmp_path / "evil.pb")


def test_a_pruned_gpen_is_a_checkpoint_with_uneven_widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpen, "sizes_of", lambda network: (SIDE, SIDE))  # no published one is small enough for a test
    form = trainable("gpen-bfr-256").form
    network = form.load(save_checkpoint(small_gpen(), tmp_path / "whole.pth"))
    groups = form.groups(network)
    ratios = Ratios(0.5, {"encoder_*": 0.75, "generator_16": 0})
    narrow = form.rebuild(prune(network.state_dict(), groups, choose(groups, ratios, group_l2(network, groups))))
    form.save(narrow, tmp_path / "narrow.pth")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    facts = gpen.exporter("gpen-bfr-256").run(tmp_path / "narrow.pth", tmp_path / "narrow.onnx")
    assert facts["channels"] == {"encoder": [8, 8, 8, 8], "generator": [16, 16, 16, 16, 32, 16, 16]}
    image = fill.image_u8("trainable/x", SIDE, SIDE)
    (restored,) = run_onnx(onnx.load(tmp_path / "narrow.onnx"), {"image": image[None]})
    with torch.no_grad():
        wanted = form.run(narrow, in_torch([{"image": image[None]}])).clamp(0, 255)
    assert np.abs(restored.astype(int) - wanted.permute(0, 2, 3, 1).numpy().astype(np.uint8)).max() <= 1


def test_networks_that_cannot_be_pruned_are_told() -> None:
    with pytest.raises(CheckpointError, match="dctnet-detector cannot be pruned: choose one of dctnet-background"):
        trainable("dctnet-detector")
    with pytest.raises(CheckpointError, match="there is no network 'sketch'"):
        trainable("sketch")
