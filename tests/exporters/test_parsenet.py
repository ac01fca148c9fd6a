"""ParseNet: the original's numbers in torch, and its logits from the export, which convolves before it doubles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters.parsenet.export import exporter
from tests.support import fill

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from exporters.graphs.folding import DoubledConv2d  # noqa: E402
from exporters.parsenet.network import ParseNet  # noqa: E402
from tests.support.filled_networks import (  # noqa: E402
    ENGINES,
    filled,
    keys_of,
    open_engine,
)
from tests.support.golden import golden, published_keys  # noqa: E402

SIZE = 64  # of the faces in the tests; the same layers as at 512
TOLERANCE = 1e-5  # of the range
# Mean, standard deviation, minimum, maximum and root mean square of what the original code gives for "parse/in_a".
ORIGINAL = {
    "mask": (-8.3208181075, 72.8290423024, -379.1561584473, 239.6464385986, 73.3028336158),
    "img": (39.5205532315, 64.7638887683, -157.8929595947, 328.3977661133, 75.8698584163),
}


@pytest.fixture(scope="module")
def network() -> ParseNet:
    return filled(ParseNet())


@pytest.fixture(scope="module")
def exported(whole_export: Callable[[str], Any]) -> tuple[Path, dict[str, Any]]:
    path, facts = whole_export("parsenet")
    return path, facts


def logits(network: ParseNet, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        mask, _ = network(torch.tensor(images).permute(0, 3, 1, 2) / 127.5 - 1)
    return mask.numpy()


def photos() -> np.ndarray:
    return np.stack([fill.smooth_u8(f"{i}", SIZE, SIZE) for i in range(2)])


def test_torch_form_gives_the_numbers_of_the_original(network: ParseNet) -> None:
    with torch.no_grad():
        outputs = network(torch.tensor(fill.uniform("parse/in_a", (1, 3, 64, 96))))
    for name, output in zip(ORIGINAL, outputs, strict=True):
        np.testing.assert_allclose(fill.statistics(output.numpy()), ORIGINAL[name], rtol=1e-5)


def test_torch_form_gives_every_number_of_the_original(network: ParseNet) -> None:
    expected = golden("parsenet")
    with torch.no_grad():
        outputs = network(torch.tensor(fill.uniform("parse/in_a", (1, 3, 64, 96))))
    for name, output in zip(("mask", "img"), outputs, strict=True):
        assert fill.compare(expected, f"a/{name}", output.numpy())["rel_rms"] < 1e-5


@pytest.mark.heavy
def test_torch_form_parses_a_photo_as_the_original(network: ParseNet, shared_models: Path) -> None:
    expected = np.load(shared_models / "expected" / "parsenet.npz")
    photo = np.load(shared_models / "expected" / "gpen512_n1_c2.npz")["photo_bgr_u8"]
    mask = logits(network, photo[None, ..., ::-1].copy())
    assert fill.compare(expected, "photo512/mask", mask)["rel_rms"] < 1e-5
    assert (mask[0].argmax(axis=0) != expected["photo512/argmax"]).mean() <= expected["photo512/margin_lt_1e-3"]


def test_keys_are_the_published_ones(network: ParseNet) -> None:
    assert list(keys_of(network).items()) == list(published_keys("parsenet").items())


@pytest.mark.parametrize("engine", ENGINES)
def test_export_equals_the_original(network: ParseNet, exported: Any, tmp_path: Path, engine: str) -> None:
    images = photos()
    expected = logits(network, images)
    with open_engine(engine, exported[0], tmp_path) as session:
        found = session.run({"image": images})["mask"]
        alone = session.run({"image": images[1:]})["mask"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.ptp(expected))
    np.testing.assert_allclose(alone, expected[1:], rtol=0, atol=TOLERANCE * np.ptp(expected))


def test_channel_order_matters(network: ParseNet, exported: Any, tmp_path: Path) -> None:
    """The comparison above can fail: the same engine on swapped channels does."""
    images = photos()
    expected = logits(network, images)
    with open_engine("onnxruntime", exported[0], tmp_path) as session:
        swapped = session.run({"image": images[..., ::-1].copy()})["mask"]
    assert np.abs(swapped - expected).max() > 1000 * TOLERANCE * np.ptp(expected)


def test_export_is_lean(exported: Any) -> None:
    _, facts = exported
    assert facts["parameters"] == 21_303_254
    assert not {"BatchNormalization", "Resize", "Shape"} & set(facts["onnx_ops"])
    assert facts["onnx_ops"]["Conv"] == 46  # 47 of the original without the one that draws a picture
    assert facts["onnx_ops"]["Slice"] == facts["onnx_ops"]["DepthToSpace"] == 8


def test_faces_are_512_unless_asked_otherwise() -> None:
    assert exporter("parsenet").size == 512


@pytest.mark.parametrize("border", ["zeros", "reflect"])
@pytest.mark.parametrize("size", [(5, 7), (1, 2)])
def test_convolving_before_doubling_changes_nothing(border: str, size: tuple[int, int]) -> None:
    convolution = filled(nn.Conv2d(3, 4, 3))
    x = torch.tensor(fill.uniform("x", (2, 3, *size)))
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    with torch.no_grad():
        if border == "zeros":
            expected = convolution(F.pad(doubled, (1, 1, 1, 1)))
            found = DoubledConv2d(convolution, padding=1)(x)
        else:
            expected = convolution(F.pad(doubled, (1, 1, 1, 1), mode="reflect"))
            found = DoubledConv2d(convolution)(F.pad(x, (1, 1, 1, 1), mode="replicate"))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-6)


def test_a_checkpoint_with_a_missing_layer_is_refused(network: ParseNet, tmp_path: Path) -> None:
    weights = {key: value for key, value in network.state_dict().items() if not key.startswith("out_mask_conv")}
    torch.save(weights, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"cut\.pth does not fit parsenet.*2 are missing \(out_mask_conv"):
        exporter("parsenet").run(tmp_path / "cut.pth", tmp_path / "model.onnx")
