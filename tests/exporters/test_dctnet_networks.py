"""The DCT-Net generator: its torch form, its frozen graph, the way between their names, and the demo weights."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cameo.errors import CheckpointError, OutputError, PhotoError
from exporters.dctnet import frozen_form as dctnet_frozen
from tests.support import fill
from tests.support.golden import golden, key_listing

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")

from demo import train_dctnet  # noqa: E402  (imports torch)
from exporters.dctnet import network as dctnet  # noqa: E402

DEMO = Path(__file__).parents[2] / "demo"
SALTS = {"cartoon_h": "", "cartoon_bg": "bg/"}
FLOAT_TOLERANCE = 1e-4  # levels; the order of summation differs

# Levels of the original code on fill.image_u8("dct/noise", 60, 44) with filled weights, at (row, column).
ORIGINAL = {
    "cartoon_h": {
        (0, 0): (145.20935, 123.10982, 136.10991),
        (0, 43): (131.95587, 120.02460, 119.50283),
        (30, 22): (167.45726, 112.22797, 128.57475),
        (31, 23): (170.90170, 112.78754, 131.10378),
        (59, 0): (130.06169, 127.62685, 125.19242),
        (59, 43): (134.84262, 127.48602, 127.33884),
    },
    "cartoon_bg": {
        (0, 0): (129.07863, 126.37782, 119.13631),
        (0, 43): (129.63193, 138.77690, 108.93815),
        (30, 22): (121.53354, 118.46464, 117.73161),
        (31, 23): (122.38033, 115.43806, 114.32825),
        (59, 0): (141.53661, 135.67053, 123.48338),
        (59, 43): (124.99629, 129.13490, 127.38932),
    },
}


def variables(net: str) -> dict[str, NDArray[np.float32]]:
    filled: dict[str, NDArray[np.float32]] = fill.fill_state_dict(dctnet_frozen.published_shapes(), SALTS[net])
    return filled


def torch_levels(network: dctnet.Generator, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        levels = network.eval()(torch.tensor(image[None]).permute(0, 3, 1, 2).float())
    return np.asarray(levels[0].permute(1, 2, 0).numpy(), np.float32)


def run_frozen(graph_def: "tf.compat.v1.GraphDef", image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        return np.asarray(session.run("output_image:0", {"input_image:0": image}), np.uint8)


def read_graph(path: Path) -> "tf.compat.v1.GraphDef":
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    return graph_def


@pytest.mark.parametrize("net", SALTS)
def test_torch_form_gives_the_numbers_of_the_original(net: str) -> None:
    levels = torch_levels(dctnet.Generator.from_variables(variables(net)), fill.image_u8("dct/noise", 60, 44))
    for pixel, expected in ORIGINAL[net].items():
        assert levels[pixel] == pytest.approx(expected, abs=FLOAT_TOLERANCE)
    assert fill.compare(golden("dctnet_generator"), f"{net}/noise60x44/float", levels)["max_abs"] < FLOAT_TOLERANCE


@pytest.mark.parametrize("case", ["cartoon_h/ffhq_288", "cartoon_h/ffhq_300x212", "cartoon_bg/ffhq_300x212"])
def test_torch_form_gives_the_photos_of_the_original(case: str, shared_models: Path) -> None:
    net, photo = case.split("/")
    expected = np.load(shared_models / "expected" / "dctnet_generator.npz")
    levels = torch_levels(dctnet.Generator.from_variables(variables(net)), expected[f"in/{photo}"])
    assert fill.compare(expected, f"{case}/float", levels)["max_abs"] < FLOAT_TOLERANCE
    off = levels.astype(np.uint8).astype(int) - expected[f"{case}/u8/full"]  # astype truncates, as the original does
    assert np.abs(off).max() <= 1
    assert (off != 0).mean() < 1e-3


@pytest.mark.parametrize("net", SALTS)
def test_frozen_graph_equals_the_torch_form(net: str, tmp_path: Path) -> None:
    image = fill.image_u8("dct/noise", 60, 44)
    path = dctnet_frozen.write_frozen_graph(variables(net), tmp_path / f"{net}.pb")
    drawn = run_frozen(read_graph(path), image)
    levels = torch_levels(dctnet.Generator.from_variables(variables(net)), image)
    assert drawn.shape == (60, 44, 3)
    assert (drawn != levels.astype(np.uint8)).mean() < 1e-3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_frozen_graph_has_the_published_topology() -> None:
    listing = key_listing("dctnet_generator.graph")
    graph_def = dctnet_frozen.build_graph(variables("cartoon_h")).as_graph_def()
    assert Counter(node.op for node in graph_def.node) == Counter(op for _, op, _, _ in listing)
    ours = {node.name: (node.op, list(node.input)) for node in graph_def.node}
    assert ours == {name: (op, inputs) for name, op, inputs, _ in listing}


def test_variables_survive_the_way_to_torch_and_back(tmp_path: Path) -> None:
    original = variables("cartoon_h")
    network = dctnet.Generator.from_variables(original)
    path = dctnet_frozen.write_frozen_graph(dctnet.to_variables(network.state_dict()), tmp_path / "net.pb")
    again = dctnet_frozen.read_variables(path)
    assert sorted(again) == sorted(original)
    assert all(np.array_equal(again[name], original[name]) for name in original)


def test_widths_are_taken_from_the_weights() -> None:
    pruned = variables("cartoon_h")
    scope = "generator/block_2"
    pruned[f"{scope}/conv1/weights"] = pruned[f"{scope}/conv1/weights"][..., :90]
    pruned[f"{scope}/conv1/biases"] = pruned[f"{scope}/conv1/biases"][:90]
    pruned[f"{scope}/conv2/weights"] = pruned[f"{scope}/conv2/weights"][:, :, :90]
    image = fill.image_u8("dct/noise", 60, 44)
    drawn = run_frozen(dctnet_frozen.build_graph(pruned).as_graph_def(), image)
    levels = torch_levels(dctnet.Generator.from_variables(pruned), image)
    assert (drawn != levels.astype(np.uint8)).mean() < 1e-3


def test_sizes_that_tensorflow_refuses_are_refused() -> None:
    with pytest.raises(PhotoError, match="multiples of 4, got 60x46"):
        dctnet.Generator(dctnet_frozen.published_shapes())(torch.zeros(1, 3, 60, 46))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    incomplete = variables("cartoon_h")
    incomplete["generator/Conv_17/biases"] = incomplete.pop("generator/Conv_7/biases")
    for use in (dctnet.Generator.from_variables, dctnet_frozen.build_graph):
        with pytest.raises(CheckpointError, match=r"1 are missing .*Conv_7/biases.* 1 are unknown .*Conv_17/biases"):
            use(incomplete)
    (tmp_path / "damaged.pb").write_bytes(b"not a graph")
    with pytest.raises(CheckpointError, match=r"damaged\.pb as a frozen graph"):
        dctnet_frozen.read_variables(tmp_path / "damaged.pb")


def test_a_folder_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        dctnet_frozen.write_frozen_graph(variables("cartoon_h"), tmp_path / "missing" / "net.pb")


def test_training_starts_from_the_identity() -> None:
    with torch.no_grad():
        x = torch.tensor(fill.uniform("demo/x", (1, 3, 32, 32)))
        drawing = train_dctnet.identity_generator().unet(x)
    assert (drawing - x).abs().mean() < 0.05


@pytest.mark.parametrize("name", ["background", "head"])
def test_demo_weights_draw_their_look(name: str) -> None:
    """On the demo photo, held out in training: clearly nearer to the look than the photo itself is.

    Fed with RGB for BGR, the background network is off by 0.68 of that distance; rightly fed, by 0.54.
    """
    training = train_dctnet.TRAININGS[name]
    photo = cv2.imread(str(DEMO / "photo.jpg"))[:288, 80:368]
    cartoon = train_dctnet.cartoon_look.cartoon(photo, training.look).astype(float)
    drawn = run_frozen(read_graph(DEMO / training.file_name), photo)
    assert np.abs(drawn - cartoon).mean() < 0.6 * np.abs(photo - cartoon).mean()
    assert np.abs(drawn.mean((0, 1)) - cartoon.mean((0, 1))).max() < 4  # no colour cast
