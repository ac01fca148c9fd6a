"""The training of GPEN's demo weights: crops, features that see detail, pictures chosen at once, stages that go on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from demo import gpen_views, photos, train_gpen  # noqa: E402
from demo.gpen_crops import for_crops, for_wholes  # noqa: E402
from demo.gpen_detail import see_detail  # noqa: E402
from demo.gpen_pictures import solve_pictures  # noqa: E402
from demo.gpen_start import grown, identity_generator  # noqa: E402
from demo.gpen_steps import Steps  # noqa: E402
from demo.gpen_views import Views  # noqa: E402
from demo.photos import Photo  # noqa: E402
from demo.train_gpen import Stage, Training, restoration_loss  # noqa: E402
from exporters.gpen.network import FullGenerator  # noqa: E402
from exporters.gpen.training_form import quickened  # noqa: E402


def random_image(side: int, batch: int = 1, seed: int = 1) -> Any:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def starting(size: int = 64) -> Any:
    """A generator that sees detail, for crops."""
    torch.manual_seed(0)
    network = for_crops(identity_generator(size))
    see_detail(network, random_image(size, batch=2))
    return network


@pytest.mark.parametrize("quick", [False, True])
def test_what_learned_on_crops_draws_wholes_alike(quick: bool) -> None:
    network, image = starting(), random_image(64)
    network = quickened(network) if quick else network
    with torch.no_grad():
        assert network(image[..., :32, :32]).shape == (1, 3, 32, 32)
        on_crops = network(image)
        assert (for_wholes(network)(image) - on_crops).abs().max() < 1e-5


def test_lower_levels_and_styles_wait_while_crops_are_learned() -> None:
    network = starting()
    network(random_image(32)).square().mean().backward()
    waiting = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert {"generator.convs.0.conv.weight", "generator.style.1.weight", "ecd4.0.1.weight"} <= waiting
    assert network.generator.convs[-1].conv.weight.grad.abs().max() > 0
    drawn = network.generator.convs[5].conv.weight.grad[:, :, : network.architecture.styled[5]]
    assert drawn.abs().max() == 0, "what nothing drew is not read"


def inner_features(network: Any, image: Any) -> Any:
    """What the last level draws, away from the borders."""
    seen = []
    hook = network.generator.convs[-1].conv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network(image)
    hook.remove()
    return seen[0][..., 24:40, 24:40]


@pytest.mark.parametrize("larger", [False, True])
def test_features_see_detail_and_no_brightness(larger: bool) -> None:
    network = starting(32 if larger else 64)
    if larger:
        network = for_crops(grown(network))
        see_detail(network, random_image(64), grown=True)
    gray = torch.zeros(1, 3, 64, 64)
    dark, bright, detailed = (inner_features(network, image) for image in (gray - 0.5, gray + 0.5, random_image(64)))
    assert (dark - bright).abs().max() < 0.05 * detailed.std()


def test_photo_passes_through_the_encoder_beside_the_features() -> None:
    network = starting()
    with torch.no_grad():
        features = network.encode(torch.full((1, 3, 64, 64), 0.5))
    for feature in features[-2:]:  # the levels that crops have
        middle = feature.shape[-1] // 2
        assert torch.allclose(feature[0, :3, middle, middle], torch.full((3,), 0.5 * 2**0.5), atol=1e-4)


def test_pictures_are_chosen_at_once() -> None:
    network, image = starting(), random_image(64, batch=2)
    with torch.no_grad():
        aim = network(image)
        for rgb in network.generator.to_rgbs[2:]:
            rgb.conv.weight += 0.3 * torch.randn(rgb.conv.weight.shape)
            rgb.bias += 0.1
        before = (network(image) - aim).square().mean()
        solve_pictures(network, [(image, aim)])
        assert (network(image) - aim).square().mean() < 1e-3 * before


def test_kernels_move_by_the_rate_in_every_direction() -> None:
    network = starting()
    kernel = network.generator.convs[-1].conv.weight
    before = kernel.detach().clone()
    steps = Steps(network)
    restoration_loss(network(random_image(64)), random_image(64, seed=2)).backward()
    steps.step(1e-3)
    moved = (kernel.detach() - before)[0].flatten(1)
    sizes = torch.linalg.svdvals(moved)
    assert sizes.max() < 3 * sizes.min(), "what Muon does, and no diagonal optimizer"
    assert 0.5 < moved.square().mean().sqrt() / (1e-3 * 0.2 * 50) < 2


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only photos of a package that tests have."""
    monkeypatch.setattr(photos, "RESTORATION", tuple(p for p in photos.RESTORATION if p.package == "skimage"))


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.usefixtures("shipped")
def test_views_show_the_same_poor_and_good(halved: bool) -> None:
    batches = Views(count=8, side=64, halved=halved).batches(np.random.default_rng(0))
    poor, good = next(batches)
    assert poor.shape == good.shape == (8, 3, 32, 32) if halved else (8, 3, 64, 64)
    assert good.min() >= -1
    assert good.max() <= 1
    for one, other in zip(poor, good, strict=True):
        assert (one.mean((1, 2)) - other.mean((1, 2))).abs().max() < 0.05, "the same place and colours"
    assert (poor - good).abs().mean() > 0.01
    assert not torch.equal(next(batches)[1], good)


def test_held_out_photos_are_not_learned() -> None:
    assert not set(photos.RESTORATION) & set(photos.HELD_OUT)
    assert {Path(photo.path).name for photo in photos.RESTORATION}.isdisjoint({"astronaut.png", "china.jpg"})


@pytest.mark.usefixtures("shipped")
def test_views_of_a_face_lie_on_it() -> None:
    cat: Photo = next(photo for photo in photos.RESTORATION if photo.face)
    marked = np.zeros((300, 451, 3), np.uint8)
    left, top, right, bottom = cat.face
    marked[top:bottom, left:right] = 255
    rng = np.random.default_rng(0)
    assert all(gpen_views._part(marked, cat.face, 60, rng).mean() > 60 for _ in range(50))


class StoppedError(Exception):
    """Training was stopped."""


def test_training_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noise:
        def batches(self, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
            while True:
                image = torch.from_numpy(rng.random((1, 3, 64, 64), np.float32))
                yield image, image.flip(3)

    monkeypatch.setattr(Stage, "views", property(lambda stage: Noise()))
    monkeypatch.setattr(train_gpen, "SAVED_EVERY", 2)
    stages = tuple(Stage(size=64, side=side, count=1, minutes=0.01, learning_rate=1e-4) for side in (32, 64))
    stopped, path = Training(stages), tmp_path / "new.pth"
    learned = stopped._learn

    def learn(poor: Any, good: Any) -> float:
        if stopped.step == 3:
            raise StoppedError
        return learned(poor, good)

    monkeypatch.setattr(stopped, "_learn", learn)
    slow = tuple(Stage(size=64, side=side, count=1, minutes=1, learning_rate=1e-4) for side in (32, 64))
    stopped.stages = slow
    with pytest.raises(StoppedError):
        stopped.run(path)
    going_on = Training(stages, seed=1)
    monkeypatch.setattr(train_gpen, "see_detail", None)  # would start anew
    going_on._resume(torch.load(tmp_path / "new.pth.state", weights_only=True))
    assert (going_on.number, going_on.step) == (0, 2)
    assert 0 < going_on.seconds < 60
    network = Training(stages, seed=1).run(path)
    assert type(network) is FullGenerator
    written = torch.load(path, weights_only=True)
    assert all(torch.equal(value, written[key]) for key, value in network.state_dict().items())
