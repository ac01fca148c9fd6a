"""FP16: what cannot be FP16 is found and kept, by range, by what it computes, or by the gate; the rest is FP16."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import optimize
from cameo.errors import CheckpointError, EngineError, PhotoError, RequestError
from optimize._conversion.calibration import Calibration, feed
from optimize._conversion.fewest import Fewest
from optimize._conversion.fp16_graph import fp16_graph, named
from optimize._conversion.fp16_judge import Fp16Judge
from optimize._conversion.ranges import Range, Ranges
from optimize._conversion.reference import Feeds, Reference
from optimize.convert_to_fp16 import ConvertToFp16
from tests.support import fill, onnx_graphs

pytest.importorskip("torch")

EDGE = ["N", "H", "W", 3]
SIZE = (24, 32)
LEAST = 50.0


def network(*middle: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """A network with uint8 edges and a convolution on both sides of `middle`, which turns "before" into "after"."""
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast_in", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], "to_nchw", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "ratio"], ["unit"], "to_unit"),
        helper.make_node("Conv", ["unit", "w1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["c1"], ["before"], "act", alpha=0.2),
        *middle,
        helper.make_node("Conv", ["after", "w2"], ["c2"], "last", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c2", "zero", "most"], ["levels"], "limit"),
        helper.make_node("Transpose", ["levels"], ["nhwc"], "to_nhwc", perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["result"], "cast_out", to=TensorProto.UINT8),
    ]
    values = {
        "ratio": 1 / 255,
        "w1": rng.uniform(-0.3, 0.5, (4, 3, 3, 3)),
        "w2": rng.uniform(0, 20, (3, 4, 3, 3)),
        "zero": 0.0,
        "most": 255.0,
        **constants,
    }
    edges = [helper.make_tensor_value_info(name, TensorProto.UINT8, EDGE) for name in ("image", "result")]
    weights = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "planted", edges[:1], edges[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def plain() -> onnx.ModelProto:
    """Nothing planted: all of it can be FP16."""
    return network(helper.make_node("Relu", ["before"], ["after"], "middle"))


def overflowing() -> onnx.ModelProto:
    """A layer whose values leave FP16, and the one that brings them back."""
    return network(
        helper.make_node("Mul", ["before", "large"], ["huge"], "boost"),
        helper.make_node("Mul", ["huge", "small"], ["after"], "unboost"),
        large=40000,
        small=1 / 40000,
    )


def pathological() -> onnx.ModelProto:
    """One channel of four is so small that FP16 has no numbers for it; then it matters as much as the others."""
    return network(
        helper.make_node("Mul", ["before", "shrink_by"], ["tiny"], "shrink"),
        helper.make_node("LeakyRelu", ["tiny"], ["tiny_too"], "between", alpha=0.5),
        helper.make_node("Div", ["tiny_too", "shrink_by"], ["after"], "grow"),
        shrink_by=np.array([1, 1, 1e-9, 1]).reshape(1, 4, 1, 1),
    )


def cancelling() -> onnx.ModelProto:
    """Two nodes whose ranges are harmless, and that lose every digit between them."""
    return network(
        helper.make_node("Add", ["before", "far"], ["moved"], "away"),
        helper.make_node("Sub", ["moved", "far"], ["near"], "back"),
        helper.make_node("Relu", ["near"], ["after"], "middle"),
        far=1500,
    )


def normalising() -> onnx.ModelProto:
    """A division by the root of a sum of squares over the channels."""
    return network(
        helper.make_node("Mul", ["before", "before"], ["squares"], "square"),
        helper.make_node("ReduceMean", ["squares", "axes"], ["mean"], "mean"),
        helper.make_node("Add", ["mean", "tiny"], ["safe"], "safe"),
        helper.make_node("Sqrt", ["safe"], ["norm"], "root"),
        helper.make_node("Reciprocal", ["norm"], ["inverse"], "inverse"),
        helper.make_node("Mul", ["before", "inverse"], ["after"], "normalised"),
        tiny=1e-3,
    )


def vanishing() -> onnx.ModelProto:
    """Values that FP16 has no numbers for, and that nobody misses: they are added to ordinary ones."""
    return network(
        helper.make_node("Mul", ["before", "less"], ["small"], "scale"),
        helper.make_node("Mul", ["small", "small"], ["tiny"], "multiply"),
        helper.make_node("Add", ["before", "tiny"], ["after"], "sum"),
        less=2e-4,
    )


def guarding() -> onnx.ModelProto:
    """An epsilon: as small, but there for the case that the other is zero."""
    return network(helper.make_node("Add", ["before", "epsilon"], ["after"], "guard"), epsilon=1e-8)


PLANTED = {
    "plain": (plain, set(), ""),
    "vanishing": (vanishing, set(), ""),
    "guarding": (guarding, {"guard"}, "underflow"),
    "overflowing": (overflowing, {"boost", "unboost"}, "overflow"),
    "pathological": (pathological, {"shrink", "between", "grow"}, "underflow"),
    "cancelling": (cancelling, {"away", "back"}, "gate"),
    "normalising": (normalising, {"square", "mean", "safe", "root", "inverse"}, "sum of squares"),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a", "b", "c"):
        Image.fromarray(fill.smooth_u8(name, 60, 80)).save(folder / f"{name}.png")
    return tuple(sorted(folder.iterdir()))


def planted(name: str) -> onnx.ModelProto:
    model = PLANTED[name][0]()
    if name == "normalising":
        model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    return model


def convert(model: onnx.ModelProto, photos: tuple[Path, ...], folder: Path) -> tuple[onnx.ModelProto, dict]:
    onnx.save(model, folder / "in.onnx")
    ConvertToFp16(Calibration.of(photos, SIZE), LEAST).run(folder / "in.onnx", folder / "out.onnx")
    return onnx.load(folder / "out.onnx"), json.loads((folder / "precision.json").read_text())


def judged(model: onnx.ModelProto, keep: set[str], photos: tuple[Path, ...], folder: Path) -> tuple[bool, str]:
    """Whether the gate holds with `keep` in FP32, and what was found."""
    model = named(model)
    judge = Fp16Judge(model, photos, SIZE, folder)
    judge.ranges()
    verdict = judge.verdict(fp16_graph(model, keep))
    return verdict.passes(LEAST), str(verdict)


@pytest.mark.parametrize("name", PLANTED)
def test_exactly_what_must_stay_in_fp32_does(name: str, photos: tuple[Path, ...], tmp_path: Path) -> None:
    _, kept, reason = PLANTED[name]
    half, record = convert(planted(name), photos, tmp_path)
    assert {row["node"] for row in record["kept_fp32"]} == kept
    assert all(row["reason"].startswith(reason) for row in record["kept_fp32"])
    assert record["gate"]["value"] >= LEAST
    assert (record["tries"] > 0) == (reason == "gate")
    dtypes = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    computing = [node for node in half.graph.node if node.op_type not in ("Cast", "Transpose")]
    for node in computing:
        expected = TensorProto.FLOAT if node.name in kept else TensorProto.FLOAT16
        assert dtypes[node.output[0]] == expected, node.name


@pytest.mark.parametrize("name", ["overflowing", "pathological", "cancelling"])
def test_the_gate_would_have_failed_without(name: str, photos: tuple[Path, ...], tmp_path: Path) -> None:
    model, kept = planted(name), PLANTED[name][1]
    assert judged(model, kept, photos, tmp_path)[0]
    assert not judged(model, set(), photos, tmp_path)[0]
    for node in kept:
        assert not judged(model, kept - {node}, photos, tmp_path)[0], f"{node} need not be FP32"


def test_the_cpu_of_onnx_runtime_is_no_judge(photos: tuple[Path, ...]) -> None:
    """Why there is a reference: ONNX Runtime's CPU provider computes the overflow in FP32 and shows nothing of it."""
    model = named(overflowing())
    feeds = feed(model, photos[0], SIZE)
    expected, hidden = (onnx_graphs.run(graph, feeds)[0] for graph in (model, fp16_graph(model, ())))
    assert np.abs(expected.astype(int) - hidden).max() <= 1


def test_values_must_be_finite_at_double_contrast(photos: tuple[Path, ...], tmp_path: Path) -> None:
    flat = tmp_path / "flat.png"
    Image.fromarray((fill.smooth_u8("flat", 60, 80) // 8 + 112).astype(np.uint8)).save(flat)
    model = network(
        helper.make_node("Sub", ["nchw", "grey"], ["centred"], "centre"),
        helper.make_node("Mul", ["centred", "large"], ["far"], "stretch"),
        helper.make_node("Clip", ["far", "zero", "most"], ["clipped"], "cut"),
        helper.make_node("ReduceMean", ["clipped"], ["shade"], "shade"),
        helper.make_node("Mul", ["shade", "zero"], ["nothing"], "nothing"),
        helper.make_node("Add", ["before", "nothing"], ["after"], "sum"),
        grey=127.5,
        large=2500,
    )
    held, found = judged(model, set(), (flat,), tmp_path)
    assert (held, found) == (False, "far is not finite")
    assert judged(model, {"stretch", "cut"}, (flat,), tmp_path)[0]


def test_edges_and_casts(photos: tuple[Path, ...], tmp_path: Path) -> None:
    before = planted("overflowing")
    half, record = convert(before, photos, tmp_path)
    assert list(half.graph.input) == list(before.graph.input)
    assert [(o.name, o.type.tensor_type.elem_type) for o in half.graph.output] == [("result", TensorProto.UINT8)]
    assert sum(node.op_type == "Cast" for node in half.graph.node) == record["casts"] == 4
    assert {i.data_type for i in half.graph.initializer if i.name.startswith("w")} == {TensorProto.FLOAT16}


def test_float_outputs_stay_float(tmp_path: Path) -> None:
    graph = named(onnx_graphs.few_channels())
    half = fp16_graph(graph, ())
    onnx.checker.check_model(half, full_check=True)
    assert [node.op_type for node in half.graph.node] == ["Cast", "Conv", "Cast"]
    assert half.graph.output[0].name == "y"
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_convolutions_read_an_even_number_of_channels(tmp_path: Path) -> None:
    before = planted("plain")
    half = fp16_graph(before, ())
    onnx.checker.check_model(half, full_check=True)
    assert "first/even" in {node.name for node in half.graph.node}
    weights = {i.name: tuple(i.dims) for i in half.graph.initializer}
    kernels = [weights[node.input[1]] for node in half.graph.node if node.op_type == "Conv"]
    assert kernels == [(4, 4, 3, 3), (3, 4, 3, 3)]
    image = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    results = [onnx_graphs.run(graph, {"image": image})[0] for graph in (before, half)]
    assert np.abs(np.subtract(*results, dtype=np.int16)).max() <= 1


@pytest.mark.parametrize("why", ["it stays in FP32", "it is a matrix product", "its channels are apart"])
def test_other_convolutions_read_what_they_read(why: str) -> None:
    apart = why == "its channels are apart"
    size = 1 if why == "it is a matrix product" else 3
    model = network(
        helper.make_node("Slice", ["before", "start", "end", "channels"], ["three"], "take"),
        helper.make_node("Conv", ["three", "w"], ["same"], "odd", pads=[size // 2] * 4, group=3 if apart else 1),
        helper.make_node("Concat", ["three", "same"], ["after"], "join", axis=1),
        w=np.ones((3, 1 if apart else 3, size, size)),
        w2=np.ones((3, 6, 3, 3)),
    )
    for name, value in (("start", 0), ("end", 3), ("channels", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    half = fp16_graph(named(model), {"odd"} if why == "it stays in FP32" else ())
    pads = [node.name for node in half.graph.node if node.op_type == "Pad"]
    assert pads == ["first/even"]


def collect_ranges(model: onnx.ModelProto, feeds: list[Feeds]) -> dict[str, Range]:
    """The range of every floating-point tensor that a node of `model` computes, over all `feeds`."""
    reference, ranges = Reference(model), Ranges()
    for one in feeds:
        reference.run(one, ranges.observe)
    return ranges.found()


def test_ranges(photos: tuple[Path, ...]) -> None:
    model = named(pathological())
    ranges = collect_ranges(model, [feed(model, photo, SIZE, contrast) for photo in photos for contrast in (1, 2)])
    assert (ranges["nchw"].low, ranges["nchw"].high) == (0, 255)
    assert ranges["tiny"].loss > 0.9
    assert 2**-14 < ranges["before"].loss < 2**-11
    assert ranges["before"].largest == pytest.approx(ranges["after"].largest, rel=0.5)
    assert ranges["nchw"].values == 3 * 24 * 32
    assert math.isinf(collect_ranges(named(overflowing()), [feed(model, photos[0], SIZE)])["huge"].loss)


def test_the_fewest_are_found_in_few_tries() -> None:
    names = [str(number) for number in range(200)]
    needed = {"17", "18", "140"}
    search = Fewest(lambda given: needed <= set(given), most_tries=60)
    assert set(search.of(names)) == needed
    assert search.tries < 60
    hasty = Fewest(lambda given: needed <= set(given), most_tries=8)
    assert needed <= set(hasty.of(names)), "what is undecided stays in"
    assert hasty.tries == 8


def test_photos_that_cannot_be_read_are_left_out_by_name(photos: tuple[Path, ...], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    _, record = convert(plain(), (*photos, broken), tmp_path)
    assert record["photos"]["skipped"] == ["broken.jpg"]
    assert record["photos"]["used"] == ["a.png", "b.png", "c.png"]
    with pytest.raises(PhotoError, match=r"1 of 1 calibration photos cannot be read \(broken.jpg\), expected"):
        convert(plain(), (broken,), tmp_path)
    with pytest.raises(PhotoError, match="calibration needs photos and got none: name a folder"):
        convert(plain(), (), tmp_path)


def test_black_and_tiny_photos_do(tmp_path: Path) -> None:
    Image.new("RGB", (80, 60)).save(tmp_path / "black.png")
    Image.new("RGB", (1, 1), "teal").save(tmp_path / "dot.png")
    _, record = convert(plain(), (tmp_path / "black.png", tmp_path / "dot.png"), tmp_path)
    assert record["kept_fp32"] == []


def test_a_graph_that_is_not_finite_is_refused(photos: tuple[Path, ...], tmp_path: Path) -> None:
    overflows = [
        helper.make_node("Mul", ["before", "huge"], ["large"]),
        helper.make_node("Mul", ["large", "huge"], ["after"]),
    ]
    broken = network(*overflows, huge=1e30)
    with pytest.raises(EngineError, match="tensor 'after' is not finite in FP32 already"):
        convert(broken, photos, tmp_path)
    assert not (tmp_path / "out.onnx").exists()


def test_a_graph_that_takes_no_photo_is_refused(photos: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected one input 'image', uint8"):
        convert(onnx_graphs.few_channels(), photos, tmp_path)


@pytest.mark.parametrize(
    ("location", "match"), [("../w.bin", "'../w.bin', outside its own folder"), ("w.bin", "'w.bin', which is missing")]
)
def test_weights_elsewhere_are_one_sentence(location: str, match: str, tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    folder.mkdir()
    model = onnx_graphs.untouched()
    onnx.save(model, folder / "in.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    if location != "w.bin":
        (folder / "w.bin").rename(tmp_path / "w.bin")
        model = onnx.load(folder / "in.onnx", load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            entry.value = location if entry.key == "location" else entry.value
        (folder / "in.onnx").write_bytes(model.SerializeToString())
    else:
        (folder / "w.bin").unlink()
    with pytest.raises(CheckpointError, match=match):
        optimize.graph_pass("clean-layout").run(folder / "in.onnx", folder / "out.onnx")


def test_conversions_are_found_by_their_precision() -> None:
    assert optimize.conversion_to("fp16").__name__ == "optimize.convert_to_fp16"
    assert "convert-to-fp16" not in optimize.pass_names(), "a pass changes no result"
    with pytest.raises(RequestError, match="cannot be converted to 'fp4': choose one of .*fp16"):
        optimize.conversion_to("fp4")
