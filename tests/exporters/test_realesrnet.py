"""RealESRNet: the original's numbers in torch for x1, x2 and x4, and its levels from the export."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters.realesrnet.export import NETWORKS, SCALES, SIZE_MULTIPLES, exporter
from tests.support import fill

torch = pytest.importorskip("torch")

from exporters.realesrnet.network import BLOCKS, RRDBNet  # noqa: E402
from tests.support.filled_networks import (  # noqa: E402
    ENGINES,
    filled,
    keys_of,
    open_engine,
    save_checkpoint,
)
from tests.support.golden import golden, published_keys  # noqa: E402

SIZES = {1: (32, 40), 2: (32, 40), 4: (20, 28)}  # of the original's inputs
EXPORTED_BLOCKS = 2  # of the 23, to spare time
# The filled last layer is scaled to what 23 blocks give; after two, the picture would be grey within a few levels.
LAST_GAIN = 60
# Mean, standard deviation, minimum, maximum, root mean square of what the original code gives for "rrdb<scale>/in_a".
ORIGINAL = {
    1: (0.6500828663, 0.2428696127, -0.0090120137, 1.3690773249, 0.6939692945),
    2: (0.6009431295, 0.1596874678, 0.0179516226, 1.3937387466, 0.6217979834),
    4: (0.5322617221, 0.1620270302, -0.1469818652, 1.1743788719, 0.5563769399),
}


@pytest.fixture(scope="module", params=SCALES.values())
def full(request: pytest.FixtureRequest) -> tuple[int, RRDBNet, np.ndarray]:
    """The scale, the network with filled weights and what it makes of the original's input."""
    scale = request.param
    network = filled(RRDBNet(scale))
    with torch.no_grad():
        output = network(torch.tensor(fill.uniform(f"rrdb{scale}/in_a", (1, 3, *SIZES[scale]), 0, 1)))
    return scale, network, output.numpy()


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The network's name, its torch form, its graph and facts."""
    folder = tmp_path_factory.mktemp(request.param)
    network = filled(RRDBNet(SCALES[request.param], EXPORTED_BLOCKS))
    network.conv_last.weight.data *= LAST_GAIN
    out = folder / "model.onnx"
    facts = exporter(request.param).run(save_checkpoint(network, folder / "weights.pth", "params_ema"), out)
    return request.param, network, out, dict(facts)


def levels(network: RRDBNet, images: np.ndarray) -> np.ndarray:
    """uint8 (N, scale * H, scale * W, 3) RGB, rounded half to even, as the original's `process`."""
    with torch.no_grad():
        result = network(torch.tensor(images).permute(0, 3, 1, 2) / 255)
    return (result.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()


def photos(height: int, width: int) -> np.ndarray:
    return np.stack([fill.smooth_u8(f"{i}", height, width) for i in range(2)])


def test_torch_form_gives_the_numbers_of_the_original(full: tuple[int, RRDBNet, np.ndarray]) -> None:
    scale, _, output = full
    np.testing.assert_allclose(fill.statistics(output), ORIGINAL[scale], rtol=1e-5, atol=2e-6)


def test_torch_form_gives_every_number_of_the_original(full: Any) -> None:
    scale, _, output = full
    assert fill.compare(golden("rrdbnet"), f"x{scale}/out", output)["rel_rms"] < 1e-5


def test_torch_form_processes_a_photo_as_the_original(full: Any, shared_models: Path) -> None:
    scale, network, _ = full
    expected = np.load(shared_models / "expected" / "rrdbnet.npz")
    photo, wanted = expected["proc/src_bgr"][..., ::-1], expected[f"x{scale}/proc_out"][..., ::-1]
    multiple = SIZE_MULTIPLES[f"realesrnet-x{scale}"]
    over = [(0, -side % multiple) for side in photo.shape[:2]]
    result = levels(network, np.pad(photo, [*over, (0, 0)], mode="reflect")[None])[0]
    difference = np.abs(result[: wanted.shape[0], : wanted.shape[1]].astype(int) - wanted)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_keys_are_the_published_ones(full: Any) -> None:
    scale, network, _ = full
    assert list(keys_of(network).items()) == list(published_keys(f"rrdbnet_x{scale}").items())


@pytest.mark.parametrize("engine", ENGINES)
def test_export_equals_the_original(exported: Any, tmp_path: Path, engine: str) -> None:
    name, network, path, _ = exported
    multiple = SIZE_MULTIPLES[name]
    with open_engine(engine, path, tmp_path) as session:
        for height, width in ((8, 12), (9, 5), (1, 1)):
            images = photos(height * multiple, width * multiple)
            result, expected = session.run({"image": images})["result"], levels(network, images)
            assert result.shape == expected.shape
            assert np.ptp(expected) > 100 or height == 1  # a grey picture would equal anything grey
            difference = np.abs(result.astype(int) - expected)
            assert difference.max() <= 1
            assert (difference > 0).mean() <= 1e-3


def test_channel_order_matters(exported: Any, tmp_path: Path) -> None:
    """The comparison above can fail: the same engine on swapped channels does."""
    _, network, path, _ = exported
    images = photos(32, 32)
    with open_engine("onnxruntime", path, tmp_path) as session:
        swapped = session.run({"image": images[..., ::-1].copy()})["result"]
    assert np.abs(swapped.astype(int) - levels(network, images)).max() > 10


def test_export_is_lean(exported: Any) -> None:
    name, _, _, facts = exported
    assert facts["scale"] == SCALES[name]
    assert facts["blocks"] == EXPORTED_BLOCKS
    assert not {"Resize", "Shape", "SpaceToDepth", "Reshape"} & set(facts["onnx_ops"])
    assert facts["onnx_ops"]["Conv"] == 15 * EXPORTED_BLOCKS + 6
    assert facts["onnx_ops"]["DepthToSpace"] == facts["onnx_ops"]["Slice"] == 2


def test_published_depth_is_taken_from_the_keys_of_another_network(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=rf"of {30 * BLOCKS + 12} keys {30 * BLOCKS + 12} are missing"):
        exporter("realesrnet-x2").run(tmp_path / "other.pth", tmp_path / "model.onnx")


def test_a_checkpoint_of_another_scale_is_refused(tmp_path: Path) -> None:
    source = save_checkpoint(filled(RRDBNet(4, 1)), tmp_path / "x4.pth", "params_ema")
    with pytest.raises(CheckpointError, match=r"conv_first\.weight is \[32, 3, 3, 3\] instead of \[32, 12, 3, 3\]"):
        exporter("realesrnet-x2").run(source, tmp_path / "model.onnx")
