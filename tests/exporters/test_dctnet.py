"""DCT-Net's frozen graphs as ONNX: the same numbers, in any spelling, and nothing dangerous."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cameo.errors import CheckpointError
from exporters import recipe_of
from exporters.checkpoints.frozen_graph import COMPUTATIONS
from exporters.dctnet.export import NETWORKS, exporter
from pipeline.recipe_stages import pass_stages
from tests.exporters.test_frozen_graph import reordered, shuffled
from tests.support import fill, frozen_graphs, stand_ins

tf = pytest.importorskip("tensorflow")

SIZES = ((60, 44), (64, 64), (32, 100))


def original(graph: Any, image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) RGB as the frozen graph makes it of uint8 (H, W, 3) RGB."""
    with tf.Graph().as_default() as tf_graph:
        tf.import_graph_def(graph, name="")
        with tf.compat.v1.Session(graph=tf_graph) as session:
            result = session.run("output_image:0", {"input_image:0": image[..., ::-1]})
    return np.asarray(result)[..., ::-1]


def engine(path: Path) -> Any:
    from cameo.backends import SessionOptions, backend

    return backend("onnxruntime").open_session(path, SessionOptions(device="cpu"))


def export(network: str, source: Path, folder: Path, passes: bool = True) -> tuple[Path, dict]:
    out = folder / f"{network}.onnx"
    facts = dict(exporter(network).run(source, out))
    if passes:
        for stage in pass_stages(recipe_of(network)):
            stage.run(out, out)
    return out, facts


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frozen_graphs.write_small(tmp_path_factory.mktemp("weights") / "cartoon_h.pb")


@pytest.fixture(scope="module", params=["tf-1.15", "tf-1.12"])
def spelled(request: pytest.FixtureRequest, small: Path) -> Path:
    if request.param == "tf-1.15":
        return small
    graph = frozen_graphs.read(small)
    frozen_graphs.spell_like_tf_1_12(graph)
    path = small.with_name("old.pb")
    path.write_bytes(graph.SerializeToString())
    return path


def test_generator_equals_the_original_in_every_spelling(spelled: Path, tmp_path: Path) -> None:
    graph = frozen_graphs.read(spelled)
    out, facts = export("dctnet-head", spelled, tmp_path)
    assert facts["onnx_nodes"] < facts["tensorflow_nodes"] == len(graph.node)
    with engine(out) as session:
        for height, width in SIZES:
            images = np.stack([fill.smooth_u8(f"{i}", height, width) for i in range(2)])
            results = session.run({"image": images})["result"]
            expected = np.stack([original(graph, image) for image in images])
            difference = np.abs(results.astype(int) - expected)
            assert difference.max() <= 1
            assert (difference > 0).mean() <= 0.001


def test_channel_order_matters(small: Path, tmp_path: Path) -> None:
    """The comparison above can fail: the same engine on swapped channels does."""
    image = fill.smooth_u8("0", 64, 64)
    out, _ = export("dctnet-head", small, tmp_path)
    with engine(out) as session:
        swapped = session.run({"image": image[None, ..., ::-1].copy()})["result"][0]
    assert np.abs(swapped.astype(int) - original(frozen_graphs.read(small), image)).max() > 1


def test_generator_is_clean(small: Path, tmp_path: Path) -> None:
    out, _ = export("dctnet-background", small, tmp_path)
    graph = onnx.load(out).graph
    ops = [node.op_type for node in graph.node]
    assert ops.count("Transpose") == 2, "layout changes only at the edges"
    assert "Shape" not in ops, "resize scales are static"
    assert ops[0] == "Cast", "TensorRT takes uint8 only into a cast"
    assert ops[-1] == "Cast"
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == ["N", "H", "W", 3]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.parametrize("name", ["cartoon_h", "cartoon_bg"])
def test_published_structure_equals_the_original(name: str, tmp_path: Path) -> None:
    network = "dctnet-head" if name == "cartoon_h" else "dctnet-background"
    source = stand_ins.write_generator(name, tmp_path)
    out, facts = export(network, source, tmp_path)
    assert facts["tensorflow_nodes"] == 232
    image = fill.image_u8("dct/noise", 60, 44)
    with engine(out) as session:
        result = session.run({"image": image[None]})["result"][0]
    difference = np.abs(result.astype(int) - original(frozen_graphs.read(source), image))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001


def run_companion(source: Path, outputs: list[str], images: np.ndarray) -> list[np.ndarray]:
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen_graphs.read(source), name="")
        with tf.compat.v1.Session(graph=graph) as session:
            feeds = {"tower_0/images:0": images, "training_flag:0": False}
            return list(session.run([f"tower_0/{name}:0" for name in outputs], feeds))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """The detector as frozen graph and as ONNX, and the export's facts."""
    folder = tmp_path_factory.mktemp("detector")
    source = stand_ins.write_companion("detector", folder)
    return source, *export("dctnet-detector", source, folder)


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """The landmark network as frozen graph and as ONNX, and the export's facts."""
    folder = tmp_path_factory.mktemp("landmarks")
    source = stand_ins.write_companion("keypoints", folder)
    return source, *export("dctnet-landmarks", source, folder)


@pytest.mark.parametrize("batch", [1, 3])
def test_detector_equals_the_original(batch: int, detector: tuple[Path, Path, dict]) -> None:
    source, out, _ = detector
    images = np.stack([fill.image_u8("det/noise", 512, 512), *(fill.smooth_u8(f"{i}", 512, 512) for i in range(2))])
    boxes, scores, count = run_companion(source, ["boxes", "scores", "num_detections"], images[:batch])
    with engine(out) as session:
        got = session.run({"image": images[:batch]})
    assert count.max() > 0, "images without a single detection prove nothing"
    np.testing.assert_array_equal(got["count"], count)
    np.testing.assert_allclose(got["boxes"], boxes, atol=1e-5)
    np.testing.assert_allclose(got["scores"], scores, atol=1e-5)


def test_detector_without_detections_is_all_zero(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    from exporters.dctnet.suppression import Suppression, add_suppression

    shape = ["N", 8, 4]
    nodes = [helper.make_node("Identity", ["b"], ["bb"]), helper.make_node("Identity", ["s"], ["ss"])]
    graph = helper.make_graph(
        nodes,
        "nms",
        [
            helper.make_tensor_value_info("b", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, shape[:2]),
        ],
        [
            helper.make_tensor_value_info("bb", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("ss", TensorProto.FLOAT, shape[:2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    add_suppression(model, Suppression("bb", "ss", most=5, iou=0.3, score=0.05))
    out = tmp_path / "nms.onnx"
    onnx.save(model, out)
    rng = np.random.default_rng(0)
    corners = rng.random((2, 8, 2), np.float32) * 0.5
    boxes = np.concatenate([corners, corners + 0.3], axis=2)
    scores = np.stack([np.full(8, 0.01, np.float32), np.array([0.05, 0.04, 0.9, 0, 0, 0, 0, 0], np.float32)])
    with engine(out) as session:
        got = session.run({"b": boxes, "s": scores})
    assert got["count"][0] == 0
    assert not got["boxes"][0].any()
    assert got["scores"][1, 0] == np.float32(0.9)
    assert set(got["scores"][1].tolist()) <= {np.float32(0.9), np.float32(0.05), 0.0}, (
        "a score equal to the limit counts"
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_landmarks_equal_the_original(batch: int, landmarks: tuple[Path, Path, dict]) -> None:
    source, out, _ = landmarks
    images = np.stack([fill.image_u8("kp/noise", 160, 160), fill.smooth_u8("kp", 160, 160)])[:batch]
    with engine(out) as session:
        got = session.run({"image": images})["prediction"]
    np.testing.assert_allclose(got, run_companion(source, ["prediction"], images)[0].reshape(batch, 143), atol=1e-5)
    ops = [node.op_type for node in onnx.load(out).graph.node]
    assert ops.count("Transpose") == 1


@pytest.mark.parametrize("name", ["dctnet-detector", "dctnet-landmarks"])
def test_companions_in_any_order_are_exported_alike(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source, _, facts = request.getfixturevalue(name.removeprefix("dctnet-"))
    mixed = reordered(source, tmp_path / "mixed.pb", shuffled)
    assert export(name, mixed, tmp_path, passes=False)[1]["onnx_ops"] == facts["onnx_ops"]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_bad_checkpoints_are_one_sentence(small: Path, tmp_path: Path) -> None:
    whole = small.read_bytes()
    saved_model = tmp_path / "saved"
    saved_model.mkdir()
    write(saved_model / "saved_model.pb", b"x")
    other = tf.compat.v1.GraphDef()
    other.node.add(name="input", op="Placeholder")
    cases = [
        (tmp_path / "absent.pb", "there is no file"),
        (saved_model, "is a SavedModel folder"),
        (write(tmp_path / "empty.pb", b""), "is empty"),
        (write(tmp_path / "cut.pb", whole[: len(whole) // 2]), "was cut off|is incomplete"),
        (write(tmp_path / "text.pb", b"<html>404</html>" * 9), "is a web page, not the weights of dctnet-head"),
        (write(tmp_path / "other.pb", other.SerializeToString()), "is not a dctnet-head graph"),
    ]
    for source, match in cases:
        with pytest.raises(CheckpointError, match=match) as caught:
            exporter("dctnet-head").run(source, tmp_path / "out.onnx")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("op", ["ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "SaveV2", "LoadLibrary", "Foo"])
def test_ops_that_do_more_than_compute_are_refused(op: str, small: Path, tmp_path: Path) -> None:
    assert op not in COMPUTATIONS
    graph = frozen_graphs.read(small)
    graph.node.add(name="surprise", op=op)
    source = write(tmp_path / "bad.pb", graph.SerializeToString())
    with pytest.raises(CheckpointError, match=rf"{op}; node 'surprise'.*nothing of it was run"):
        exporter("dctnet-head").run(source, tmp_path / "out.onnx")


def test_every_network_has_a_recipe() -> None:
    for network in NETWORKS:
        assert recipe_of(network).network == network
