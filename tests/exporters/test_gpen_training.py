"""GPEN for training: the faithful numbers, gradients and pictures, quicker."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from compress.pruning.cost import macs  # noqa: E402
from exporters import trainable  # noqa: E402
from exporters.gpen.network import FullGenerator  # noqa: E402
from exporters.gpen.training_form import quickened  # noqa: E402
from tests.exporters.test_gpen import small, uniform  # noqa: E402
from tests.support.filled_networks import keys_of  # noqa: E402

SAME = 1e-5  # largest error, of a range of 2
SIDE = 32


@pytest.fixture
def pair() -> tuple[FullGenerator, FullGenerator]:
    """The same generator in its faithful and in its quick form."""
    network = small(SIDE)
    return network, quickened(deepcopy(network))


def test_quick_form_computes_the_faithful_one(pair: tuple[FullGenerator, FullGenerator]) -> None:
    faithful, quick = pair
    image = uniform("gpen/in", SIDE, 3)
    with torch.no_grad():
        assert (quick(image) - faithful(image)).abs().max() < SAME
        quick.generator.convs[1].noise.weight.mul_(1.1)
        assert (quick(image) - faithful(image)).abs().max() > 100 * SAME, "the comparison above can fail"


def test_networks_that_enlarge_keep_their_noise() -> None:
    network = small(SIDE, in_size=16)
    image = uniform("gpen/in", 16, 2)
    with torch.no_grad():
        expected = network(image, seed=1)
        assert (quickened(network)(image, seed=1) - expected).abs().max() < SAME


def test_weights_keep_their_names(pair: tuple[FullGenerator, FullGenerator]) -> None:
    faithful, quick = pair
    assert list(keys_of(quick).items()) == list(keys_of(faithful).items())
    assert [name for name, _ in quick.named_modules()] == [name for name, _ in faithful.named_modules()]
    again = FullGenerator.from_state_dict(quick.state_dict())
    with torch.no_grad():
        assert torch.equal(again(uniform("gpen/in", SIDE)), faithful(uniform("gpen/in", SIDE)))


def test_gradients_are_the_faithful_ones(pair: tuple[FullGenerator, FullGenerator]) -> None:
    image = uniform("gpen/in", SIDE, 2)
    for network in pair:
        network(image).square().mean().backward()
    expected, found = ({key: p.grad for key, p in network.named_parameters()} for network in pair)
    for key, gradient in expected.items():
        assert torch.allclose(found[key], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max())), key


def test_hooks_see_the_faithful_pictures(pair: tuple[FullGenerator, FullGenerator]) -> None:
    image = uniform("gpen/in", SIDE, 2)
    names = list(trainable("gpen-bfr-256").form.features(pair[0]))
    seen: list[dict[str, torch.Tensor]] = []
    for network in pair:
        pictures: dict[str, torch.Tensor] = {}
        seen.append(pictures)
        for name in names:
            network.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, name=name, pictures=pictures: pictures.update({name: output})
            )
        with torch.no_grad():
            network(image)
    faithful, quick = seen
    assert list(quick) == list(faithful)
    assert set(quick) == set(names)
    assert all((quick[name] - faithful[name]).abs().max() < SAME * faithful[name].abs().max() for name in names)


def test_multiplications_are_those_of_the_faithful_form(pair: tuple[FullGenerator, FullGenerator]) -> None:
    """But for those with zeros between the pixels of enlarged RGB images: three quarters of their filter's."""
    form = trainable("gpen-bfr-256").form
    faithful, quick = (macs(network, form.run, {"image": torch.zeros(1, 3, SIDE, SIDE)}) for network in pair)
    enlarged = sum(3 * 16 * side**2 for side in (8, 16, 32))
    assert faithful - quick == enlarged * 3 // 4


def test_what_is_trained_is_quick_and_what_is_exported_is_faithful(tmp_path: Path) -> None:
    form = trainable("gpen-bfr-256").form
    network = form.rebuild(small(SIDE).state_dict())
    assert type(network.get_submodule("generator.conv1")).__name__ == "QuickStyledConv"
    form.save(network, tmp_path / "weights.pth")
    state = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert type(FullGenerator.from_state_dict(state).generator.conv1).__name__ == "StyledConv"
