"""Networks that take more than a photo are pruned, counted and taught on what their family makes of photos."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cameo.images import write_image
from cameo.tensors import TensorSpec
from compress.learn_int8 import LearnInt8
from compress.pruning.groups import ChannelGroup, Member, convolution_group
from compress.teaching import Photos, Teaching
from compress.trainable import ONE_IMAGE, Handed
from metrics.examples import Examples

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from compress.prune_channels import PruneChannels  # noqa: E402
from compress.pruning.cost import macs  # noqa: E402
from compress.recovery.feeds import feeds_of  # noqa: E402

SIDE = 16
FAMILY = "tests.compress.mixers"
SEEN: list[Mapping[str, Any]] = []


class Mixer(nn.Module):
    """A photo, and a tint of it that is no photo: three numbers."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Any, tint: Any) -> Any:
        x = torch.cat([image, tint[:, :, None, None].expand_as(image)], 1)
        return self.last(self.second(self.first(x).relu()).relu())


class TrainableMixer:
    """See `compress.trainable.Trainable`."""

    inputs = (*ONE_IMAGE, TensorSpec("tint", "float32", ("N", 3)))
    suffix, side, multiple, learning_rate = ".pt", SIDE, 1, 1e-2

    def load(self, path: Path, part: str = "") -> nn.Module:
        return self.rebuild(torch.load(path))

    def rebuild(self, state: Mapping[str, Any]) -> nn.Module:
        network = Mixer()
        for name, _ in network.named_children():
            weight = state[f"{name}.weight"]
            setattr(network, name, nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1))
        network.load_state_dict(state)
        return network

    def save(self, network: nn.Module, path: Path) -> None:
        torch.save(network.state_dict(), path)

    def run(self, network: nn.Module, feeds: Mapping[str, Any]) -> Any:
        SEEN.append(feeds)
        return network(feeds["image"] / 255, feeds["tint"]) * 255

    def groups(self, network: nn.Module) -> tuple[ChannelGroup, ...]:
        width = network.state_dict()["first.weight"].shape[0]
        return tuple(
            convolution_group(*names)
            for names in (("a", width, ["first"], ["second"]), ("b", width, ["second"], ["last"]))
        )

    def features(self, network: nn.Module) -> dict[str, tuple[Member, ...]]:
        return {"first": (Member("a", 1),), "second": (Member("b", 1),)}


def examples(network: str, inputs: Sequence[TensorSpec], photos: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """By name, and not in the order of the inputs."""
    assert [(spec.name, spec.shape[0]) for spec in inputs] == [("image", 1), ("tint", 1)]
    for photo in photos:
        yield {"tint": photo.mean((0, 1), np.float32)[None] / 255, "image": photo[None]}


@pytest.fixture
def mixer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Handed, Path, Photos]:
    """The network as its family hands it in, a checkpoint, and photos."""
    family = ModuleType(FAMILY)
    vars(family).update(examples=examples, trainable=lambda network: TrainableMixer())
    monkeypatch.setitem(sys.modules, FAMILY, family)
    SEEN.clear()
    torch.manual_seed(0)
    torch.save(Mixer().state_dict(), tmp_path / "mixer.pt")
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        write_image(
            tmp_path / f"photos/{seed}.png", np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
        )
    handed = Handed("mixer", FAMILY, Examples("mixer", FAMILY))
    return handed, tmp_path / "mixer.pt", Photos.of(tmp_path / "photos")


def test_feeds_are_rows_of_what_the_family_makes_of_photos(mixer: tuple[Handed, Path, Photos]) -> None:
    photos = [np.full((SIDE, SIDE, 3), level, np.uint8) for level in (51, 204)]
    feeds = feeds_of(mixer[0], photos)
    assert {name: tuple(feed.shape) for name, feed in feeds.items()} == {"image": (2, 3, SIDE, SIDE), "tint": (2, 3)}
    assert feeds["image"].mean((1, 2, 3)).tolist() == [51, 204]
    assert feeds["tint"][:, 0].tolist() == pytest.approx([0.2, 0.8])


def test_a_network_of_two_inputs_is_pruned_and_taught(mixer: tuple[Handed, Path, Photos], tmp_path: Path) -> None:
    network, checkpoint, photos = mixer
    teaching = Teaching(photos, 40, checkpoints=tmp_path / "learning")
    facts = PruneChannels(network, 0.5, teaching=teaching).run(checkpoint, tmp_path / "narrow.pt")
    assert facts["widths"] == {"a": [16, 8], "b": [16, 8]}
    assert facts["macs"][0] == SIDE**2 * 9 * (6 * 16 + 16 * 16 + 16 * 3)
    assert facts["held_out_psnr_after"] > facts["held_out_psnr_before"] + 1
    assert all(set(feeds) == {"image", "tint"} for feeds in SEEN)
    assert network.form.load(tmp_path / "narrow.pt")


def test_it_learns_to_bear_int8(mixer: tuple[Handed, Path, Photos], tmp_path: Path) -> None:
    network, checkpoint, photos = mixer
    facts = LearnInt8(network, Teaching(photos, 0)).run(checkpoint, tmp_path / "int8.pt")
    assert facts["convolutions"] == 2  # the last gives the picture
    assert facts["held_out_psnr_before"] > 30


def test_a_stage_rests_on_what_feeds_the_network() -> None:
    handed = Handed("mixer", "family.trainable", Examples("mixer", "family.examples"))
    for stage in (PruneChannels(handed, 0.3), LearnInt8(handed, Teaching())):
        assert stage.rests_on == ("family.trainable", "family.examples")


def test_costs_are_counted_for_one_set_of_feeds(mixer: tuple[Handed, Path, Photos]) -> None:
    feeds = feeds_of(mixer[0], [np.zeros((SIDE, 2 * SIDE, 3), np.uint8)])
    assert macs(Mixer(), mixer[0].form.run, feeds) == 2 * SIDE**2 * 9 * (6 * 16 + 16 * 16 + 16 * 3)
