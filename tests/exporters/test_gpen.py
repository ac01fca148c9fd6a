"""GPEN: the original's numbers in torch at every size, and the same levels from the export."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters.gpen import export as gpen
from exporters.gpen.export import NETWORKS, exporter, is_normalised, load_generator, noise_inputs, size_of, sizes_of
from tests.support import fill

torch = pytest.importorskip("torch")

from exporters.gpen.export_form import ExportForm, RestoredLevels  # noqa: E402
from exporters.gpen.network import Architecture, FullGenerator  # noqa: E402
from tests.support.filled_networks import filled, keys_of, save_checkpoint  # noqa: E402
from tests.support.golden import golden, published_keys  # noqa: E402
from tests.support.onnx_graphs import opened, run  # noqa: E402

# The original's test networks: name of its expected values, constructor arguments
PUBLISHED = {
    "gpen64_n025_c1": {"size": 64, "narrow": 0.25, "channel_multiplier": 1},
    "gpen256_n05_c1": {"size": 256, "narrow": 0.5, "channel_multiplier": 1},
    "gpen512_n1_c2": {"size": 512},
    "gpen1024_n1_c2": {"size": 1024},
    "gpen2048_n1_c2": {"size": 2048},
    "gpen_sr128to256_n05_c1": {"size": 256, "narrow": 0.5, "channel_multiplier": 1, "in_size": 128},
}
EXACT = 1e-5  # relative root mean square error of a faithful network
LEAN = 1e-5  # largest error of the export form, of a range of 2


def generator(**arguments: Any) -> FullGenerator:
    return filled(FullGenerator.without_weights(Architecture.of(**arguments)).to_empty(device="cpu"))


def small(size: int = 32, **arguments: Any) -> FullGenerator:
    return generator(size=size, narrow=0.0625, channel_multiplier=1, style_dim=64, **arguments)


def uniform(name: str, size: int, batch: int = 1) -> torch.Tensor:
    return torch.tensor(fill.uniform(name, (batch, 3, size, size)))


def restored(network: FullGenerator, images: np.ndarray, normalised: bool = True) -> np.ndarray:
    """uint8 (N, S, S, 3) RGB as the original's FaceGAN.process makes it, apart from its resize."""
    x = images.astype(np.float32) / 255
    x = torch.tensor((x - 0.5) / 0.5 if normalised else x).permute(0, 3, 1, 2)
    with torch.inference_mode():
        y = network(x).permute(0, 2, 3, 1).numpy()
    y = y * 0.5 + 0.5 if normalised else y
    return (np.clip(y, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_are_the_published_ones(name: str) -> None:
    network = FullGenerator.without_weights(Architecture.of(**PUBLISHED[name]))
    published = published_keys(name)
    assert list(keys_of(network).items()) == list(published.items())
    assert Architecture.from_shapes(published) == network.architecture


@pytest.fixture(scope="module")
def published(request: pytest.FixtureRequest) -> tuple[str, FullGenerator]:
    """One of the original's test networks with filled weights, made once for all tests of it."""
    return request.param, generator(**PUBLISHED[request.param])


FULL_SIZE = tuple(pytest.param(f"gpen{size}_n1_c2", marks=pytest.mark.heavy) for size in (512, 1024))


@pytest.mark.parametrize("published", ["gpen64_n025_c1", "gpen256_n05_c1", *FULL_SIZE], indirect=True)
def test_faithful_form_gives_the_numbers_of_the_original(published: tuple[str, FullGenerator]) -> None:
    name, network = published
    with torch.inference_mode():
        output = network(uniform(f"{name}/in_a", network.architecture.in_size))
    assert fill.compare(golden(name), "out_a", output.numpy())["rel_rms"] < EXACT


@pytest.mark.parametrize("published", ["gpen64_n025_c1", "gpen256_n05_c1", FULL_SIZE[0]], indirect=True)
def test_faithful_form_restores_a_photo_as_the_original(
    published: tuple[str, FullGenerator], shared_models: Path
) -> None:
    name, network = published
    expected = np.load(shared_models / "expected" / f"{name}.npz")
    photo = torch.tensor(expected["photo_bgr_u8"][None, ..., ::-1].copy()).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.inference_mode():
        assert fill.compare(expected, "out_photo", network(photo).numpy())["rel_rms"] < EXACT
        style = network.style(network.encode(photo)[0])[:, None]
        latent = style.expand(expected["latent_photo/full"].shape).numpy()
        assert fill.compare(expected, "latent_photo", latent)["rel_rms"] < EXACT


@pytest.mark.parametrize("published", ["gpen64_n025_c1"], indirect=True)
def test_faithful_form_restores_batches_as_the_original(published: tuple[str, FullGenerator]) -> None:
    name, network = published
    batch = torch.cat([uniform(f"{name}/in_{i}", 64) for i in "ab"])
    with torch.inference_mode():
        assert fill.compare(golden(name), "out_batch2", network(batch).numpy())["rel_rms"] < EXACT


def test_larger_generators_take_their_noise_as_an_input() -> None:
    expected = golden("gpen_sr128to256_n05_c1")
    network = generator(**PUBLISHED["gpen_sr128to256_n05_c1"])
    image = uniform("gpen_sr/in_a", 128)
    with torch.inference_mode():
        seeded = network(image, seed=1234)
        assert fill.compare(expected, "out_torch_seed1234", seeded.numpy())["rel_rms"] < EXACT
        noise = network.draw_noise(1, seed=1234)
        assert torch.equal(network(image, noise), seeded)
        assert torch.equal(network(image), network(image))
        assert not torch.equal(network(image), seeded)
        assert torch.allclose(ExportForm(network)(image, *noise), seeded, rtol=0, atol=LEAN)
        for index in (10, 11):
            network.generator.convs[index].noise.weight.zero_()
        assert fill.compare(expected, "out_top_noise_weight_zero", network(image).numpy())["rel_rms"] < EXACT


@pytest.mark.parametrize("published", ["gpen256_n05_c1", *FULL_SIZE], indirect=True)
def test_export_form_gives_the_numbers_of_the_original(published: tuple[str, FullGenerator]) -> None:
    name, network = published
    with torch.inference_mode():
        lean = ExportForm(network)(uniform(f"{name}/in_a", network.architecture.in_size))
    report = fill.compare(golden(name), "out_a", lean.numpy())
    assert report["rel_rms"] < EXACT
    assert report["max_abs"] < LEAN


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("noise_weight", [None, 0.0, -0.6])
def test_export_form_at_any_batch_and_noise_weight(batch: int, noise_weight: float | None) -> None:
    network = small()
    if noise_weight is not None:
        for layer in (network.generator.conv1, *network.generator.convs):
            torch.nn.init.constant_(layer.noise.weight, noise_weight)
    image = uniform("gpen/in", 32, batch)
    with torch.inference_mode():
        assert torch.allclose(ExportForm(network)(image), network(image), rtol=0, atol=LEAN)


@pytest.mark.parametrize(
    "broken", ["encoder.0.bias", "layers.0.squares", "layers.3.convolution.fir", "redrawn.1.skip_bias"]
)
def test_export_form_is_compared_in_every_part(broken: str) -> None:
    """The comparison above can fail: a change of one constant does."""
    network, image = small(), uniform("gpen/in", 32)
    form = ExportForm(network)
    form.get_buffer(broken).mul_(1.1)
    with torch.inference_mode():
        assert (form(image) - network(image)).abs().max() > 100 * LEAN


def test_pruned_and_uneven_widths_are_read_from_the_shapes() -> None:
    plan = Architecture(encoder=(6, 5, 4), constant=7, styled=(9, 3, 8, 4, 5), style_dim=16, style_layers=2)
    network = filled(FullGenerator(plan))
    assert Architecture.from_shapes(keys_of(network)) == plan
    image = uniform("gpen/in", 16, 2)
    with torch.inference_mode():
        assert torch.allclose(ExportForm(network)(image), network(image), rtol=0, atol=LEAN)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow GPEN of size 256 as its trainer leaves it."""
    folder = tmp_path_factory.mktemp("weights")
    return save_checkpoint(generator(size=256, narrow=0.125, channel_multiplier=1), folder / "gpen.pth", "g_ema")


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> tuple[Path, dict[str, Any]]:
    out = checkpoint.with_name("model.onnx")
    return out, dict(exporter("gpen-bfr-256").run(checkpoint, out))


def test_exported_graph_gives_the_originals_levels(checkpoint: Path, exported: Any) -> None:
    import onnx

    network, exports = load_generator(checkpoint, "gpen-bfr-256"), opened(onnx.load(exported[0]))
    images = np.stack([fill.smooth_u8(f"{i}", 256, 256) for i in range(3)])
    expected = restored(network, images).astype(int)
    for batch in (1, 3):
        (result,) = exports({"image": images[:batch]})
        assert result.shape == (batch, 256, 256, 3)
        assert np.abs(result - expected[:batch]).max() <= 1
        assert (result != expected[:batch]).mean() < 1e-3
    (swapped,) = exports({"image": images[:1, ..., ::-1].copy()})
    assert np.abs(swapped - expected[:1]).max() > 1, "the comparison above can fail"


def test_dead_filters_and_an_empty_style_stay_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EPS is in the graph: torch's exporter takes a scalar of 1e-8 for zero."""
    import onnx

    monkeypatch.setattr(gpen, "sizes_of", lambda network: (32, 32))  # no published one is small enough for a test
    network = small()
    with torch.no_grad():
        network.generator.convs[3].conv.weight[0, :2] = 0
        for parameter in network.final_linear.parameters():
            parameter.zero_()
    exporter("gpen-bfr-256").run(save_checkpoint(network, tmp_path / "dead.pth"), tmp_path / "dead.onnx")
    images = fill.smooth_u8("dead", 32, 32)[None]
    (result,) = run(onnx.load(tmp_path / "dead.onnx"), {"image": images})
    assert np.abs(result - restored(network, images).astype(int)).max() <= 1


def test_exported_graph_computes_no_weights(exported: Any) -> None:
    import onnx

    graph, facts = onnx.load(exported[0]).graph, exported[1]
    assert {key: facts[key] for key in ("size", "narrow", "channel_multiplier")} == {
        "size": 256,
        "narrow": 0.125,
        "channel_multiplier": 1,
    }
    constants = {initializer.name for initializer in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) > 40
    assert all(node.input[1] in constants for node in convolutions)
    dims = graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["N", 256, 256, 3]


def test_facegan_of_the_original(shared_models: Path, tmp_path: Path) -> None:
    """The original's uint8 to uint8, for networks in [-1, 1] and for those in [0, 1]."""
    expected = np.load(shared_models / "expected" / "gpen256_facegan_process.npz")
    network = generator(**PUBLISHED["gpen256_n05_c1"])
    image = cv2.resize(expected["src_bgr"], (256, 256), interpolation=cv2.INTER_LINEAR)[None, ..., ::-1].copy()
    levels = torch.tensor(image).permute(0, 3, 1, 2).float()
    for normalised, name in ((True, "out_bgr"), (False, "out_bgr_is_norm_false")):
        faithful = restored(network, image, normalised)[0, ..., ::-1].astype(int)
        assert np.abs(faithful - expected[name]).max() <= 1
        assert (faithful != expected[name]).mean() < 1e-3
        with torch.inference_mode():
            lean = RestoredLevels(ExportForm(network), normalised)(levels)
        lean_bgr = lean.permute(0, 2, 3, 1).numpy().astype(np.uint8)[0, ..., ::-1].astype(int)
        assert np.abs(lean_bgr - expected[name]).max() <= 1
        assert (lean_bgr != expected[name]).mean() < 1e-3


def test_names_tell_size_and_range() -> None:
    assert {size_of(network) for network in NETWORKS} == {256, 512, 1024, 2048}
    assert sizes_of("gpen-bfr-512") == sizes_of("gpen-seg2face-512") == (512, 512)
    assert sizes_of("gpen-sr-128-256") == (128, 256)
    assert [network for network in NETWORKS if not is_normalised(network)] == ["gpen-seg2face-512"]


def test_another_size_is_refused_and_both_are_named(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="looks like a GPEN generator of size 256 .* expected size 512"):
        exporter("gpen-bfr-512").run(checkpoint, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_generator_that_enlarges_takes_its_noise_as_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    monkeypatch.setattr(gpen, "sizes_of", lambda network: (16, 32))  # no published one is small enough for a test
    network = small(in_size=16)
    weights = save_checkpoint(network, tmp_path / "sr.pth")
    exporter("gpen-sr-128-256").run(weights, tmp_path / "model.onnx")
    shapes = noise_inputs(network.architecture)
    graph = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in graph.graph.input] == ["image", *shapes] == ["image", "noise_0", "noise_1"]
    images = fill.image_u8("sr", 2 * 16, 16).reshape(2, 16, 16, 3)
    noise = {name: fill.normal(f"sr/{name}", (2, *shape)) for name, shape in shapes.items()}
    with torch.inference_mode():
        x = torch.tensor(images).permute(0, 3, 1, 2) / 127.5 - 1
        y = network(x, [torch.tensor(values) for values in noise.values()]) * 127.5 + 127.5
    expected = y.clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    exports = opened(graph)
    (result,) = exports({"image": images, **noise})
    assert result.shape == (2, 32, 32, 3)
    assert np.abs(result.astype(int) - expected).max() <= 1
    (other,) = exports({"image": images, **noise, "noise_0": -noise["noise_0"]})
    assert (other != result).mean() > 0.01, "the noise matters"


def test_two_sizes_are_refused(tmp_path: Path) -> None:
    weights = save_checkpoint(
        generator(size=256, narrow=0.0625, channel_multiplier=1, in_size=128), tmp_path / "sr.pth"
    )
    with pytest.raises(CheckpointError, match="sizes 128 in, 256 out .* expected size 256"):
        load_generator(weights, "gpen-bfr-256")
    with pytest.raises(CheckpointError, match="sizes 128 in, 256 out .* expected sizes 256 in, 512 out"):
        load_generator(weights, "gpen-sr-256-512")


def test_other_networks_and_altered_keys_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["g_ema"]

    def refused(content: dict[str, torch.Tensor], match: str) -> None:
        torch.save(content, tmp_path / "altered.pth")
        with pytest.raises(CheckpointError, match=match):
            load_generator(tmp_path / "altered.pth", "gpen-bfr-256")

    refused({"conv_first.weight": torch.ones(8, 3, 3, 3), "body.0.rdb1.conv1.weight": torch.ones(1)}, "like RealESRNet")
    refused({**state, "extra": torch.ones(1)}, "1 is unexpected .extra.")
    refused({key: t for key, t in state.items() if key != "ecd3.0.2.bias"}, "1 is missing .ecd3.0.2.bias.")
    refused({**state, "generator.to_rgb1.bias": torch.ones(3)}, "to_rgb1.bias is .3. instead of .1, 3, 1, 1.")
    refused({**state, "generator.input.input": torch.ones(())}, "is not for gpen-bfr-256")
    refused({**state, "final_linear.0.weight": torch.full((512, 1024), torch.nan)}, "NaN or infinite")
