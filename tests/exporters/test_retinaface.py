"""RetinaFace: the original's numbers in torch, and the same from its export, for sizes even and odd."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cameo.errors import CheckpointError
from exporters.recipe import STANDARD_PASSES
from exporters.retinaface.export import NETWORKS, exporter
from tests.support import fill

torch = pytest.importorskip("torch")

import optimize  # noqa: E402
from exporters.retinaface.network import MEAN_BGR, RetinaFace  # noqa: E402
from tests.support.filled_networks import (  # noqa: E402
    ENGINES,
    filled,
    keys_of,
    open_engine,
)
from tests.support.golden import golden, published_keys  # noqa: E402

OUTPUTS = ("loc", "conf", "landms")
SIZES = ((96, 128), (61, 77), (33, 40), (1, 1))
# Mean, standard deviation, minimum, maximum and root mean square of what the original code gives for "retina/in_b".
ORIGINAL = {
    "loc": (0.0831318559, 2.5813297811, -8.2908535004, 6.3234701157, 2.5826680671),
    "conf": (0.4999999998, 0.4573671665, 0.0, 1.0, 0.6776317029),
    "landms": (-0.5979805526, 2.4024934575, -7.9723501205, 7.7143764496, 2.4757939240),
}


@pytest.fixture(scope="module")
def network() -> RetinaFace:
    return filled(RetinaFace())


@pytest.fixture(scope="module")
def exported(whole_export: Callable[[str], Any]) -> tuple[Path, dict[str, Any]]:
    path, facts = whole_export("retinaface-r50")
    return path, facts


def original(network: RetinaFace, images: np.ndarray) -> dict[str, np.ndarray]:
    pixels = torch.tensor(images[..., ::-1] - np.array(MEAN_BGR, np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return dict(zip(OUTPUTS, (output.numpy() for output in network(pixels)), strict=True))


def photos(height: int, width: int) -> np.ndarray:
    return np.stack([fill.smooth_u8(f"{i}", height, width) for i in range(2)])


def test_torch_form_gives_the_numbers_of_the_original(network: RetinaFace) -> None:
    with torch.no_grad():
        outputs = network(torch.tensor(fill.uniform("retina/in_b", (1, 3, 125, 141), -120, 130)))
    for name, output in zip(OUTPUTS, outputs, strict=True):
        np.testing.assert_allclose(fill.statistics(output.numpy()), ORIGINAL[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("name", "size"), [("a", (160, 192)), ("b", (125, 141))])
def test_torch_form_gives_every_number_of_the_original(network: RetinaFace, name: str, size: tuple[int, int]) -> None:
    expected = golden("retinaface_r50")
    with torch.no_grad():
        outputs = network(torch.tensor(fill.uniform(f"retina/in_{name}", (1, 3, *size), -120, 130)))
    for output_name, output in zip(OUTPUTS, outputs, strict=True):
        assert fill.compare(expected, f"{name}/{output_name}", output.numpy())["rel_rms"] < 1e-5


def test_keys_are_the_published_ones(network: RetinaFace) -> None:
    assert list(keys_of(network).items()) == list(published_keys("retinaface_r50").items())


@pytest.mark.parametrize("engine", ENGINES)
def test_export_equals_the_original(network: RetinaFace, exported: Any, tmp_path: Path, engine: str) -> None:
    with open_engine(engine, exported[0], tmp_path) as session:
        for size in SIZES:
            images = photos(*size)
            found, expected = session.run({"image": images}), original(network, images)
            for name in OUTPUTS:
                span = np.ptp(expected[name])
                np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5 * span, err_msg=f"{size}")


def test_channel_order_matters(network: RetinaFace, exported: Any, tmp_path: Path) -> None:
    """The comparison above can fail: the same engine on swapped channels does."""
    images = photos(64, 64)
    with open_engine("onnxruntime", exported[0], tmp_path) as session:
        swapped = session.run({"image": images[..., ::-1].copy()})["loc"]
    assert np.abs(swapped - original(network, images)["loc"]).max() > 0.1


def test_export_is_lean(exported: Any) -> None:
    path, facts = exported
    ops = facts["onnx_ops"]
    assert facts["parameters"] == 27_293_600
    assert "BatchNormalization" not in ops
    assert ops["Shape"] == ops["Resize"] == 2  # an odd level is not twice the next: its size is the only arithmetic
    model = onnx.load(path, load_external_data=False)
    assert not any(node.metadata_props for node in model.graph.node)  # torch notes file names there


def test_standard_passes_keep_the_numbers(network: RetinaFace, exported: Any, tmp_path: Path) -> None:
    lean = tmp_path / "lean.onnx"
    lean.write_bytes(exported[0].read_bytes())
    for name in STANDARD_PASSES:
        optimize.graph_pass(name).run(lean, lean)
    images = photos(61, 77)
    with open_engine("onnxruntime", lean, tmp_path) as session:
        np.testing.assert_allclose(session.run({"image": images})["loc"], original(network, images)["loc"], atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = {"conv_first.weight": torch.zeros(32, 3, 3, 3), "conv_first.bias": torch.zeros(32)}
    torch.save(weights, tmp_path / "other.pth")
    (name,) = NETWORKS
    with pytest.raises(CheckpointError, match=r"other\.pth does not fit retinaface-r50.*456 are missing"):
        exporter(name).run(tmp_path / "other.pth", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
