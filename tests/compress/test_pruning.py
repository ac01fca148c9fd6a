"""Which channels leave, which stay, and that the others do not notice."""

import pytest

from cameo.errors import CameoError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from compress.pruning.channels import Ratios, choose, prune, width  # noqa: E402
from compress.pruning.cost import macs, parameters  # noqa: E402
from compress.pruning.groups import ChannelGroup, Member, convolution_group  # noqa: E402
from compress.pruning.importance import group_l2, taylor  # noqa: E402
from tests.support.silence import silence  # noqa: E402


def two_layers(channels: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.LeakyReLU(0.2), nn.Conv2d(channels, 3, 3)).eval()


def inner(channels: int = 16) -> ChannelGroup:
    return convolution_group("inner", channels, ["0"], ["2"])


def test_removing_channels_is_silencing_them() -> None:
    network, kept = two_layers(), {"inner": (0, 3, 4, 5, 9, 12, 13, 15)}
    narrow, silent = two_layers(8), two_layers()
    narrow.load_state_dict(prune(network.state_dict(), [inner()], kept))
    silent.load_state_dict(silence(network.state_dict(), [inner()], kept))
    x = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        assert torch.allclose(narrow(x), silent(x), atol=1e-6)
        assert not torch.allclose(network(x), silent(x), atol=1e-2)


def test_a_repeated_member_goes_in_blocks_and_a_fan_in_keeps_its_scale() -> None:
    state = {"linear": torch.arange(12.0).reshape(1, 12)}
    group = ChannelGroup("flat", 3, (Member("linear", 1, repeat=4, fan_in=True),))
    pruned = prune(state, [group], {"flat": (0, 2)})["linear"]
    assert torch.allclose(pruned / 8**0.5, state["linear"][:, [0, 1, 2, 3, 8, 9, 10, 11]] / 12**0.5)


@pytest.mark.parametrize(
    ("channels", "ratio", "left"),
    [(32, 0.3, 16), (64, 0.3, 40), (128, 0.3, 88), (128, 0, 128), (16, 0.9, 8), (8, 0.3, 8), (6, 0.3, 6), (40, 0.8, 8)],
)
def test_widths_are_multiples_of_8(channels: int, ratio: float, left: int) -> None:
    assert width(inner(channels), ratio) == left


def test_narrow_networks_may_have_narrower_widths() -> None:
    assert [width(inner(channels), 0.3, multiple=4) for channels in (8, 16, 64)] == [4, 8, 44]


def test_ratios_that_cannot_be_are_refused() -> None:
    importance = {"inner": torch.ones(16)}
    with pytest.raises(CameoError, match="would leave inner empty: .* 16 channels .* prune at most 0.93 there"):
        choose([inner()], Ratios(0.95), importance)
    with pytest.raises(CameoError, match="the pruning ratio is 1.2: expected a share"):
        choose([inner()], Ratios(1.2), importance)
    with pytest.raises(CameoError, match="the pruning ratio is nan"):
        choose([inner()], Ratios(float("nan")), importance)
    with pytest.raises(CameoError, match="cannot be multiples of 0: expected 1 or more"):
        choose([inner()], Ratios(0.3, multiple=0), importance)
    with pytest.raises(CameoError, match=r"no stage is called 'outer': choose from inner"):
        choose([inner()], Ratios(0.3, {"outer": 0.5}), importance)


def test_a_stage_has_its_own_ratio() -> None:
    importance = {"inner": torch.arange(16.0)}
    assert len(choose([inner()], Ratios(0, {"in*": 0.5}), importance)["inner"]) == 8
    assert choose([inner()], Ratios(0.5), importance)["inner"] == tuple(range(8, 16))


@pytest.mark.parametrize("criterion", ["l2", "taylor"])
def test_a_dead_channel_goes_first(criterion: str) -> None:
    network, group = two_layers(), inner()
    with torch.no_grad():
        network[0].weight[5] = 0
        network[0].bias[5] = 0
        network[2].weight[:, 5] = 0
    if criterion == "l2":
        found = group_l2(network, [group])
    else:
        found = taylor(network, network, [group], [torch.randn(2, 3, 12, 12)])
    assert found["inner"].argmin() == 5
    assert found["inner"].min() < 1e-6


def test_taylor_sees_what_norms_cannot() -> None:
    """Channel 5 has the largest weights, but its bias keeps it at zero on every image: a ReLU never passes it."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 3, 3))
    with torch.no_grad():
        network[0].weight[5] *= 3
        network[0].bias[5] = -1e3
        network[2].weight[:, 5] *= 3
    images = [torch.rand(2, 3, 12, 12)]
    assert group_l2(network, [inner()])["inner"].argmax() == 5
    assert taylor(network, network, [inner()], images)["inner"].argmin() == 5


def test_cost_counts_weights_and_multiplications() -> None:
    network = two_layers()
    assert parameters(network) == 3 * 16 * 9 + 16 + 16 * 3 * 9 + 3
    feeds = {"image": torch.zeros(1, 3, 12, 12)}
    assert macs(network, lambda module, x: module(x["image"]), feeds) == 3 * 16 * 9 * 100 + 16 * 3 * 9 * 64
