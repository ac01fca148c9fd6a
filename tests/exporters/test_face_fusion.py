"""Face fusion's generator: the original's numbers in torch, and the same from its export form.

Its ONNX is in test_face_fusion_pruning.py: of a pruned one, whose export shows all that a whole one's would.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo.errors import CheckpointError
from cameo.tensors import TensorSpec
from exporters.face_fusion.examples import examples
from exporters.face_fusion.export import NETWORKS
from tests.support import fill

torch = pytest.importorskip("torch")

from exporters.face_fusion.adaptive import SpectralConv2d, positional_norm  # noqa: E402
from exporters.face_fusion.export_form import ExportForm  # noqa: E402
from exporters.face_fusion.export_generator import SIZE, load_generator  # noqa: E402
from exporters.face_fusion.network import Architecture, FusionGenerator  # noqa: E402
from exporters.face_fusion.original import open_original  # noqa: E402
from exporters.face_fusion.untrained import untrained  # noqa: E402
from tests.support.filled_networks import filled, keys_of, save_checkpoint  # noqa: E402
from tests.support.golden import golden, published_keys  # noqa: E402

NAME = "fusion-generator"
EXACT = 3e-4  # relative root mean square error of the faithful network on noise, which sampling makes sensitive
LEAN = 1e-4  # largest error of the export form, of a range of 2; a tenth of it is the root mean square one's limit
NARROW = 0.0625


def generator(narrow: float = 1.0) -> Any:
    return filled(FusionGenerator.without_weights(Architecture.of(narrow)).to_empty(device="cpu"))


def case_a() -> tuple[Any, ...]:
    """The first inputs of the original's expected values: noise, an identity, two jaw lines."""
    identity = fill.normal("aei/z", (1, 512))
    fused = fill.uniform("aei/kpf", (1, 17, 2), -0.6, 0.6)
    target = fused + fill.normal("aei/kpt", (1, 17, 2), 0.05)
    image = fill.uniform("aei/xt", (1, 3, SIZE, SIZE))
    return tuple(map(torch.tensor, (image, identity / np.linalg.norm(identity), fused, target)))


def smooth_case() -> tuple[Any, ...]:
    """Case a with a smooth picture."""
    picture = torch.tensor(fill.smooth_u8("fusion/smooth", SIZE, SIZE)).permute(2, 0, 1)[None] / 127.5 - 1
    return (picture, *case_a()[1:])


def case_b(expected: Any) -> tuple[Any, ...]:
    """Case a and a photo, in one batch."""
    first_image, _, first_fused, first_target = case_a()
    photo = torch.tensor(expected["photo_bgr"][None, ..., ::-1].copy()).permute(0, 3, 1, 2) / 255 * 2 - 1
    fused = fill.uniform("aei/kpf2", (1, 17, 2), -0.5, 0.5)
    target = fused + fill.normal("aei/kpt2", (1, 17, 2), 0.03)
    return (
        torch.cat([first_image, photo]),
        torch.tensor(expected["b/z"]),
        torch.cat([first_fused, torch.tensor(fused)]),
        torch.cat([first_target, torch.tensor(target)]),
    )


def feeds_of(count: int) -> dict[str, np.ndarray]:
    """The family's examples on smooth pictures, in one batch."""
    shapes = {"identity": (1, 512), "keypoints_fused": (1, 17, 2), "keypoints_target": (1, 17, 2)}
    inputs = [TensorSpec("image", "uint8", (1, SIZE, SIZE, 3))]
    inputs += [TensorSpec(name, "float32", shape) for name, shape in shapes.items()]
    photos = [fill.smooth_u8(f"fusion/{index}", 200, 300) for index in range(count)]
    found = list(examples(NAME, inputs, photos))
    return {name: np.concatenate([feeds[name] for feeds in found]) for name in found[0]}


@pytest.fixture(scope="module")
def small() -> Any:
    return generator(NARROW)


@pytest.fixture(scope="module")
def checkpoint(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow generator as its trainer leaves it, with the wrappers' prefix."""
    path = tmp_path_factory.mktemp("weights") / "pytorch_model.pt"
    torch.save({"state_dict": {f"module.model.{key}": tensor for key, tensor in small.state_dict().items()}}, path)
    return path


def test_keys_are_the_published_ones() -> None:
    published = published_keys("aei_net")
    network = FusionGenerator.without_weights(Architecture())
    assert list(keys_of(network).items()) == list(published.items())
    assert Architecture.from_shapes(published) == Architecture()


@pytest.mark.parametrize("batch", [1, 3])
def test_export_form_at_any_batch(small: Any, batch: int) -> None:
    inputs = [part.repeat(batch, *[1] * (part.ndim - 1)) for part in smooth_case()]
    for part in inputs:
        part[-1] = part[-1].flip(-1) * 0.9  # samples of a batch differ
    with torch.inference_mode():
        faithful, lean = small(*inputs), ExportForm(small, SIZE)(*inputs)
    assert faithful.std() > 0.1
    assert (faithful - lean).abs().max() < LEAN
    assert (faithful - lean).square().mean().sqrt() < LEAN / 10


@pytest.mark.parametrize(
    "broken",
    [
        "motion.line",
        "motion.full_grid",
        "motion.mask.weight",
        "encoder.up.2.weight",
        "seed.bias",
        "attention.out.weight",
        "blocks.2.second.shift.weight",
        "blocks.5.shortcut.shift.weight",
        "blocks.6.shortcut.identity_shift.weight",
        "blocks.7.masks.weight",
    ],
)
def test_export_form_is_compared_in_every_part(small: Any, broken: str) -> None:
    """The comparison above can fail: a change of one constant does."""
    form = ExportForm(deepcopy(small), SIZE)  # forms share what they can with their network
    with torch.no_grad():
        dict([*form.named_parameters(), *form.named_buffers()])[broken].mul_(1.1)
        difference = form(*smooth_case()) - small(*smooth_case())
        assert difference.abs().max() > 10 * LEAN
        assert difference.square().mean().sqrt() > LEAN


def test_spectral_norm_is_of_the_stored_vectors() -> None:
    convolution = SpectralConv2d(3, 4, 1, bias=False)
    with torch.no_grad():
        convolution.module.weight_u.copy_(torch.tensor([2.0, 0, 0, 0]))
        convolution.module.weight_v.copy_(torch.tensor([0.0, 3, 0]))
        weight = convolution.module.weight_bar[:, :, 0, 0]
        x = torch.ones(1, 3, 2, 2)
        assert torch.allclose(convolution(x)[0, :, 0, 0], weight.sum(1) / (6 * weight[0, 1]))


def test_pixels_are_normalised_by_their_unbiased_variance() -> None:
    pixel = torch.tensor([1.0, 2.0, 6.0])
    expected = (pixel - 3) / np.sqrt(7 + 1e-5)  # biased, the variance were 14/3
    assert torch.allclose(positional_norm(pixel[None, :, None, None])[0, :, 0, 0], expected)


def test_result_is_the_faithful_one_rounded(small: Any, checkpoint: Path) -> None:
    feeds = feeds_of(1)
    image = torch.tensor(feeds["image"]).permute(0, 3, 1, 2) / 255 * 2 - 1
    others = [torch.tensor(feeds[name]) for name in ("identity", "keypoints_fused", "keypoints_target")]
    with torch.inference_mode():
        exact = (small(image, *others) * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    result = open_original(NAME, checkpoint).run(feeds)["result"]
    assert np.abs(result - exact).max() < 0.501
    assert abs((result - exact).mean()) < 0.02, "not truncated"


def test_examples_are_the_same_every_time_and_plausible() -> None:
    first, again = feeds_of(2), feeds_of(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert np.allclose(np.linalg.norm(first["identity"], axis=1), 1)
    for name in ("keypoints_fused", "keypoints_target"):
        x, y = first[name][0].T
        assert np.abs(first[name]).max() < 1
        assert x[0] < x[8] < x[16], "from ear to ear"
        assert y[6:11].max() == y.max(), "with the chin below"
    assert not np.array_equal(first["keypoints_fused"], first["keypoints_target"])
    assert not np.array_equal(first["identity"][0], first["identity"][1])


def test_a_photo_alone_has_the_identity_that_it_has_among_others() -> None:
    """Teaching and calibration ask photo by photo, and must not see one identity all the time."""
    inputs = [TensorSpec("image", "uint8", (1, SIZE, SIZE, 3)), TensorSpec("identity", "float32", (1, 512))]
    photos = [fill.smooth_u8(f"fusion/{index}", 200, 300) for index in range(2)]
    together = list(examples(NAME, inputs, photos))
    alone = [next(examples(NAME, inputs, [photo])) for photo in photos]
    assert all(np.array_equal(one["identity"], other["identity"]) for one, other in zip(together, alone, strict=True))
    assert not np.array_equal(alone[0]["identity"], alone[1]["identity"])


def test_other_networks_and_altered_keys_are_refused(small: Any, tmp_path: Path) -> None:
    state = small.state_dict()

    def refused(content: dict[str, Any], match: str) -> None:
        torch.save(content, tmp_path / "altered.pt")
        with pytest.raises(CheckpointError, match=match):
            load_generator(tmp_path / "altered.pt", NAME)

    refused({"ecd0.0.0.weight": torch.ones(8, 3, 1, 1)}, "is not for fusion-generator.*expected the face fusion gen")
    refused({**state, "extra": torch.ones(1)}, "like the face fusion generator AEI.*1 is unexpected .extra.")
    without = {key: tensor for key, tensor in state.items() if key != "generator.sa.gamma"}
    refused(without, "1 is missing .generator.sa.gamma.")
    refused({**state, "generator.up1.bias": torch.ones(3)}, "generator.up1.bias is .3. instead of .64.")


def test_untrained_networks_draw(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = save_checkpoint(untrained(NAME, NARROW), tmp_path / NETWORKS[NAME].usual[0])
    result = open_original(NAME, path).run(feeds_of(1))["result"]
    assert result.std() > 2
    assert ((result > 0) & (result < 255)).mean() > 0.9


@pytest.fixture(scope="module")
def whole() -> Any:
    """The generator in its published widths: for the last tests of this file, which then lets go of its 0.9 GB."""
    return generator()


@pytest.mark.heavy
def test_both_forms_give_the_numbers_of_the_original(whole: Any) -> None:
    expected = golden("aei_net")
    with torch.inference_mode():
        for form in (whole, ExportForm(whole, SIZE)):
            assert fill.compare(expected, "a/Y", form(*case_a()).numpy())["rel_rms"] < EXACT


@pytest.mark.heavy
def test_a_batch_with_a_photo_gives_the_numbers_of_the_original(whole: Any, shared_models: Path) -> None:
    expected = np.load(shared_models / "expected" / "aei_net.npz")
    with torch.inference_mode():
        assert fill.compare(expected, "b/Y", whole(*case_b(expected)).numpy())["rel_rms"] < EXACT
