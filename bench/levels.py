"""How far GPEN's engines are from the faithful network: in a child process, whose memory goes with it.

    python -m bench.levels NETWORK BATCH CHECKPOINT BUNDLE

prints a line of JSON: {"onnxruntime": {"exact_levels": 0.0021, "result": 1}, ...}, the largest differences on a batch
of the demo's aligned face, mirrored and blurred. `result` is that of the engine that the bundle serves, in whole
levels; `exact_levels` that of its graph with one more output, the picture before it is truncated, in levels of 0..255.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import engines
from bench.group_photo import PORTRAIT
from cameo.backends import SessionOptions, backend
from cameo.bundle import Bundle
from cameo.faces.alignment import similarity_in_crop_frame, square_template
from cameo.faces.finders.cascade import CascadeFinder
from cameo.faces.paste import crop_from
from cameo.faces.restoring import ZOOM
from cameo.images import read_photo
from cameo.session import Tensor

ENGINES = ("onnxruntime", "openvino")
LEVELS = "exact_levels"


def aligned_faces(size: int, count: int) -> NDArray[np.uint8]:
    """The portrait's face as the flow cuts it out, then mirrored, then blurred: uint8 `(count, size, size, 3)` RGB."""
    portrait = read_photo(PORTRAIT)
    points = CascadeFinder()(portrait)[0].five_points.astype(np.float32)
    face = crop_from(portrait, similarity_in_crop_frame(points, square_template(size, ZOOM)), size)
    variants = (face, face[:, ::-1], cv2.GaussianBlur(face, (0, 0), size / 128))
    return np.stack([np.asarray(variants[index % len(variants)], np.uint8) for index in range(count)])


def add_levels_output(graph: Path, out: Path) -> None:
    """Write `graph` with what its last cast, to `result`, takes as a second output, `exact_levels` float32."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(graph)
    cast = next(node for node in model.graph.node if node.output[0] == "result")
    if cast.op_type != "Cast":
        raise ValueError(f"{graph} ends in {cast.op_type}, expected a Cast to uint8")
    model.graph.node.insert(
        list(model.graph.node).index(cast), helper.make_node("Identity", [cast.input[0]], [LEVELS], LEVELS)
    )
    model.graph.output.append(helper.make_tensor_value_info(LEVELS, TensorProto.FLOAT, None))
    onnx.save(model, out)


def original_levels(network: str, checkpoint: Path, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The faithful network's picture, clipped and not yet truncated: float32 `(N, S, S, 3)` in 0..255."""
    import torch

    from exporters.gpen.export import load_generator

    generator = load_generator(checkpoint, network)
    with torch.no_grad():
        image = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
        restored = generator((image - 0.5) / 0.5) * 0.5 + 0.5
        return np.ascontiguousarray((restored.clip(0, 1) * 255).permute(0, 2, 3, 1).numpy())


def run_engine(engine: str, path: Path, feeds: Mapping[str, Tensor], precision: str = "fp32") -> dict[str, Tensor]:
    """What the built engine at `path` gives."""
    with backend(engine).open_session(path, SessionOptions(precision, "cpu")) as session:
        return session.run(feeds)


def with_levels(engine: str, graph: Path, feeds: Mapping[str, Tensor]) -> Tensor:
    """`exact_levels` of the ONNX file `graph` on that engine, in FP32."""
    with tempfile.TemporaryDirectory(prefix="cameo-bench-") as folder:
        cut, built = Path(folder, "levels.onnx"), Path(folder, "built")
        add_levels_output(graph, cut)
        if engine == "openvino":
            built.mkdir()
        engines.engine(engine).builder(engines.EngineOptions()).run(cut, built)
        return run_engine(engine, built, feeds)[LEVELS]


def main(network: str, batch: str, checkpoint: str, bundle: str) -> int:
    """Print the differences."""
    faces = aligned_faces(int(network.rpartition("-")[2]), int(batch))
    expected = original_levels(network, Path(checkpoint), faces)
    opened = Bundle(bundle)
    entry = opened.network(network)
    found = {}
    for engine in ENGINES:
        built = next(e for e in entry.engines if (e.engine, e.precision) == (engine, "fp32"))
        result = run_engine(engine, opened.verified(built.file), {"image": faces})["result"]
        levels = with_levels(engine, opened.verified(entry.onnx), {"image": faces})
        found[engine] = {
            LEVELS: float(np.abs(levels.astype(np.float64) - expected).max()),
            "result": int(np.abs(result.astype(np.int16) - expected.astype(np.uint8)).max()),
        }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
