"""INT8: the Q/DQ contract, the convolution that INT8 cannot hold is found and kept, and engines agree on the result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import optimize
from cameo.artifact import Artifact
from cameo.errors import EngineError, GateError, PhotoError
from cameo.images import read_photo
from engines import EngineOptions, InputRange
from optimize._conversion.calibration import Calibration
from optimize._conversion.fp16_graph import named
from optimize._conversion.int8_graph import candidates, int8_graph, with_fp32
from optimize._conversion.int8_judge import EXACT, Fidelity, Int8Judge
from optimize._conversion.thresholds import METHODS, Histogram
from optimize.convert_to_int8 import MARGIN, ConvertToInt8, conversion
from tests.support import fill, onnx_graphs
from tests.support.filled_networks import ENGINES, open_engine

EDGE = ["N", "H", "W", 3]
SIZE = (32, 48)
LIMIT = Fidelity(ConvertToInt8.least_psnr + MARGIN, ConvertToInt8.least_ssim)
CONVOLUTIONS = ["first", "down", "wide", "up", "last"]


def network(wide: float = 1.0, **changed: Any) -> onnx.ModelProto:
    """A convolutional network with uint8 edges; one channel of what "up" reads is `wide` times as large as needed."""
    rng = np.random.default_rng(5)
    factor = np.array([wide, 1, 1, 1], np.float32).reshape(4, 1, 1, 1)
    values = {
        "ratio": 1 / 127.5,
        "one": 1.0,
        "w1": rng.normal(0, 0.25, (4, 3, 3, 3)),
        "b1": rng.normal(0, 0.1, 4),
        "w2": rng.normal(0, 0.25, (4, 4, 3, 3)),
        "w3": rng.normal(0, 0.25, (4, 4, 3, 3)) * factor,
        "w4": rng.normal(0, 0.5, (4, 6, 2, 2)) / factor,
        "w5": rng.normal(0, 12, (3, 6, 3, 3)),
        "b5": np.full(3, 127.5),
        "zero": 0.0,
        "most": 255.0,
        **changed,
    }
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast_in", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], "to_nchw", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "ratio"], ["scaled"], "to_unit"),
        helper.make_node("Sub", ["scaled", "one"], ["unit"], "centre"),
        helper.make_node("Conv", ["unit", "w1", "b1"], ["c1"], "first", **same),
        helper.make_node("LeakyRelu", ["c1"], ["a1"], "act1", alpha=0.2),
        helper.make_node("Conv", ["a1", "w2"], ["c2"], "down", strides=[2, 2], **same),
        helper.make_node("LeakyRelu", ["c2"], ["a2"], "act2", alpha=0.2),
        helper.make_node("Conv", ["a2", "w3"], ["c3"], "wide", **same),
        helper.make_node("LeakyRelu", ["c3"], ["a3"], "act3", alpha=0.2),
        helper.make_node("ConvTranspose", ["a3", "w4"], ["c4"], "up", strides=[2, 2]),
        helper.make_node("LeakyRelu", ["c4"], ["a4"], "act4", alpha=0.2),
        helper.make_node("Conv", ["a4", "w5", "b5"], ["c5"], "last", **same),
        helper.make_node("Clip", ["c5", "zero", "most"], ["levels"], "limit"),
        helper.make_node("Transpose", ["levels"], ["nhwc"], "to_nhwc", perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["result"], "cast_out", to=TensorProto.UINT8),
    ]
    edges = [helper.make_tensor_value_info(name, TensorProto.UINT8, EDGE) for name in ("image", "result")]
    weights = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "planted", edges[:1], edges[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def pathological() -> onnx.ModelProto:
    """What "up" reads has a channel 300 times as large as the others, whose weights make up for it."""
    return network(wide=300)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a", "b", "c"):
        Image.fromarray(fill.smooth_u8(name, 60, 80)).save(folder / f"{name}.png")
    return tuple(sorted(folder.iterdir()))


def quantize(
    model: onnx.ModelProto, photos: tuple[Path, ...], folder: Path, **options: float
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    onnx.save(model, folder / "in.onnx")
    ConvertToInt8(Calibration.of(photos, SIZE), **options).run(folder / "in.onnx", folder / "out.onnx")  # type: ignore[arg-type]
    return onnx.load(folder / "out.onnx"), json.loads((folder / "precision.json").read_text())


def fidelity(model: onnx.ModelProto, names: set[str], photos: tuple[Path, ...], folder: Path) -> Fidelity:
    """With the convolutions `names` in INT8 and the best of the methods."""
    model = named(model)
    judge = Int8Judge(model, model, photos, SIZE, folder)
    histograms = judge.histograms([node.input[0] for node in candidates(model).values()])
    found = [
        judge.verdict(int8_graph(model, names, {name: one.threshold(method) for name, one in histograms.items()}))
        for method in METHODS
    ]
    return max(found, key=lambda one: one.psnr)


def test_everything_that_can_be_is_int8(photos: tuple[Path, ...], tmp_path: Path) -> None:
    quantized, record = quantize(network(), photos, tmp_path)
    assert (record["nodes"], record["kept_fp32"], record["tries"]) == (5, [], 0)
    assert LIMIT.psnr <= record["gate"]["value"] < 70, "INT8 must show"
    assert set(record["methods"]) == set(METHODS)
    assert record["gate"]["value"] == max(method["psnr"] for method in record["methods"].values())
    assert record["bytes"]["int8"] == (tmp_path / "out.onnx").stat().st_size
    assert [v.name for v in (*quantized.graph.input, *quantized.graph.output)] == ["image", "result"]


def test_weights_that_learned_are_compared_with_what_they_learned_from(
    photos: tuple[Path, ...], tmp_path: Path
) -> None:
    onnx.save(network(b5=np.full(3, 120.0)), tmp_path / "original.onnx")
    onnx.save(network(), tmp_path / "learned.onnx")
    stage = ConvertToInt8(Calibration.of(photos, SIZE), least_psnr=20)
    plain = stage.run(tmp_path / "learned.onnx", tmp_path / "out.onnx")
    compared = conversion(stage.calibration, 20, original=Artifact.of(tmp_path / "original.onnx"))
    against = compared.run(tmp_path / "learned.onnx", tmp_path / "out.onnx")
    assert against["gate"]["value"] < 32 < plain["gate"]["value"]  # 7.5 levels brighter, where nothing is clipped


def test_exactly_the_pathological_range_stays_in_fp32(photos: tuple[Path, ...], tmp_path: Path) -> None:
    quantized, record = quantize(pathological(), photos, tmp_path)
    (row,) = record["kept_fp32"]
    assert (row["node"], row["op"], row["tensor"], row["bytes"]) == ("up", "ConvTranspose", "a3", 4 * 6 * 2 * 2 * 3)
    assert row["reason"].startswith("gate")
    assert row["alone"]["psnr"] < LIMIT.psnr
    assert row["range"][1] > 50, "the range that is the reason"
    assert record["before_search"]["psnr"] < LIMIT.psnr <= record["gate"]["value"]
    inputs = {node.name: list(node.input) for node in quantized.graph.node}
    assert inputs["up"] == ["a3", "w4"]


def test_the_gate_would_have_failed_without(photos: tuple[Path, ...], tmp_path: Path) -> None:
    everything = set(CONVOLUTIONS)
    assert not fidelity(pathological(), everything, photos, tmp_path).reaches(LIMIT)
    assert fidelity(pathological(), everything - {"up"}, photos, tmp_path).reaches(LIMIT)
    assert fidelity(network(), everything, photos, tmp_path).reaches(LIMIT)
    for other in everything - {"up"}:
        assert not fidelity(pathological(), everything - {other}, photos, tmp_path).reaches(LIMIT)


@pytest.mark.parametrize("kept", [[], ["first"], ["down", "last"], ["down", "wide", "up", "last"], CONVOLUTIONS])
def test_returned_to_fp32_it_is_as_if_it_had_never_been_int8(kept: list[str], photos: tuple[Path, ...]) -> None:
    model = named(network())
    thresholds = {node.input[0]: 2.0 for node in candidates(model).values()}
    restored = with_fp32(int8_graph(model, CONVOLUTIONS, thresholds), model, kept)
    onnx.checker.check_model(restored, full_check=True)
    others = [name for name in CONVOLUTIONS if name not in kept]
    never = int8_graph(model, others, thresholds) if others else model
    feeds = {"image": read_photo(photos[0])[None, :32, :48]}
    np.testing.assert_array_equal(*(onnx_graphs.run(graph, feeds)[0] for graph in (restored, never)))


def test_the_qdq_contract(photos: tuple[Path, ...], tmp_path: Path) -> None:
    """What TensorRT, OpenVINO and ONNX Runtime all take: symmetric INT8, weights per output channel, FP32 biases."""
    quantized, _ = quantize(network(), photos, tmp_path)
    constants = {i.name: numpy_helper.to_array(i) for i in quantized.graph.initializer}
    givers = {name: node for node in quantized.graph.node for name in node.output}
    pairs = [node for node in quantized.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 3 * len(CONVOLUTIONS)
    for node in pairs:
        scale, zero = (constants[name] for name in node.input[1:])
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (scale > 0).all()
    for name in CONVOLUTIONS:
        node = next(node for node in quantized.graph.node if node.name == name)
        activation, weights = (givers[value] for value in node.input[:2])
        assert givers[activation.input[0]].op_type == "QuantizeLinear"
        assert constants[activation.input[1]].size == 1
        axis = 0 if node.op_type == "Conv" else 1
        assert next(a.i for a in weights.attribute if a.name == "axis") == axis
        rounded, scale = constants[weights.input[0]], constants[weights.input[1]]
        assert rounded.dtype == np.int8
        assert scale.shape == (rounded.shape[axis],)
        others = tuple(i for i in range(4) if i != axis)
        assert (np.abs(rounded.astype(int)).max(axis=others) == 127).all(), "every channel uses its whole range"
        assert all(constants[bias].dtype == np.float32 for bias in node.input[2:])


def test_engines_agree(photos: tuple[Path, ...], tmp_path: Path) -> None:
    quantize(network(), photos, tmp_path)
    image = fill.smooth_u8("held out", 64, 48)[None]
    results = {}
    for engine in ENGINES:
        with open_engine(engine, tmp_path / "out.onnx", tmp_path) as session:
            results[engine] = session.run({"image": image})["result"].astype(int)
    (expected,) = onnx_graphs.run(network(), {"image": image})
    difference = np.abs(results["onnxruntime"] - results["openvino"])
    assert difference.mean() < 0.2
    assert difference.max() <= 8, "a value at the edge of two steps may fall to either side"
    assert np.abs(results["openvino"] - expected).mean() < 3


def test_tensorrt_rtx_builds_it(photos: tuple[Path, ...], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from engines import engine

    quantize(network(), photos, tmp_path)
    shape = (1, *SIZE, 3)
    options = EngineOptions((InputRange("one", shape, shape, shape),), ("sm_86",))
    facts = engine("tensorrt-rtx").builder(options).run(tmp_path / "out.onnx", tmp_path / "engine.rtx")
    assert facts["profiles"][0]["weight_bytes"] > 0


def test_grouped_transposed_convolutions_are_left_alone() -> None:
    group = helper.make_attribute("group", 3)
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], "blur")]
    model = onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], w=np.ones((3, 1, 4, 4), np.float32))
    assert set(candidates(model)) == {"blur"}
    model.graph.node[0].attribute.append(group)
    assert not candidates(model)


def test_histograms_grow_and_thresholds_differ() -> None:
    rng = np.random.default_rng(0)
    one = Histogram()
    for scale in (1, 4, 0.5):
        one.observe(rng.normal(0, scale, (1, 8, 100, 100)).astype(np.float32))
    assert one.counts.sum() == 3 * 80_000
    values = {method: one.threshold(method) for method in METHODS}
    assert values["minmax"] == one.largest
    assert 9 < values["percentile"] < one.largest, "the widest third is a normal distribution of deviation 4"
    assert values["entropy"] < one.largest
    one.observe(np.full((1, 1), 1000, np.float32))
    assert one.threshold("minmax") == 1000
    assert one.threshold("percentile") < 20, "one value of 240,001 is cut off"
    assert one.threshold("entropy") < 500


def test_zeros_have_no_threshold() -> None:
    one = Histogram()
    one.observe(np.zeros((2, 3), np.float32))
    assert [one.threshold(method) for method in METHODS] == [0, 0, 0]


def test_what_reads_only_zeros_stays_in_fp32(photos: tuple[Path, ...], tmp_path: Path) -> None:
    """A dead layer has no range: a scale of 0 would divide by nothing."""
    _, record = quantize(network(w2=np.zeros((4, 4, 3, 3))), photos, tmp_path)
    assert [row["node"] for row in record["kept_fp32"]] == ["wide", "up", "last"]
    assert all("nothing but zeros" in row["reason"] for row in record["kept_fp32"])


def test_a_gate_beyond_int8_is_an_error(photos: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(GateError, match="INT8 misses its gate .* together they come to .* dB"):
        quantize(network(), photos, tmp_path, least_psnr=90)
    assert not (tmp_path / "out.onnx").exists()


def test_ssim_is_a_gate_too(photos: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(GateError, match="SSIM"):
        quantize(network(), photos, tmp_path, least_ssim=1.0)
    assert not Fidelity(50, 0.9).reaches(LIMIT)
    assert EXACT.reaches(LIMIT)


def test_photos_that_say_nothing_are_left_out(photos: tuple[Path, ...], tmp_path: Path) -> None:
    black, broken = tmp_path / "black.png", tmp_path / "broken.jpg"
    Image.new("RGB", (80, 60)).save(black)
    broken.write_bytes(b"no photo")
    _, record = quantize(network(), (*photos, black, broken), tmp_path)
    assert record["photos"] == {"used": ["a.png", "b.png", "c.png"], "skipped": ["broken.jpg", "black.png"]}
    with pytest.raises(PhotoError, match=r"every calibration photo is of one colour \(black.png\)"):
        quantize(network(), (black,), tmp_path)
    with pytest.raises(PhotoError, match="calibration photos cannot be read"):
        quantize(network(), (broken,), tmp_path)
    with pytest.raises(PhotoError, match="calibration needs photos and got none"):
        quantize(network(), (), tmp_path)


def test_photos_smaller_than_the_network_do(tmp_path: Path) -> None:
    Image.fromarray(fill.smooth_u8("small", 8, 10)).save(tmp_path / "small.png")
    _, record = quantize(network(), (tmp_path / "small.png",), tmp_path)
    assert record["photos"]["used"] == ["small.png"]


def test_a_graph_that_is_not_finite_is_refused(photos: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not finite in FP32 on a.png: check the weights"):
        quantize(network(w1=np.full((4, 3, 3, 3), 1e38)), photos, tmp_path)


def test_a_graph_without_convolutions_is_refused(photos: tuple[Path, ...], tmp_path: Path) -> None:
    edges = [helper.make_tensor_value_info(name, TensorProto.UINT8, EDGE) for name in ("image", "result")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["result"])], "none", edges[:1], edges[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(EngineError, match="no convolution by constant weights"):
        quantize(model, photos, tmp_path)


def test_it_is_the_conversion_to_int8() -> None:
    assert optimize.conversion_to("int8").__name__ == "optimize.convert_to_int8"
    assert "convert-to-int8" not in optimize.pass_names()
