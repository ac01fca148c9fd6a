"""How far a network of face fusion is from the faithful one: in a child process, whose memory goes with it.

    python -m bench.fusion_levels NETWORK BATCH WEIGHTS BUNDLE

prints a line of JSON: for every engine that runs here ("openvino bf16") the largest difference of each output. That of
`result`, the face, is in whole levels, and comes with `psnr` and, against the original's face, `identity`: the cosine
of the flow's own recogniser, as its authors run it. In FP32 there is also `exact_levels`, the face before it is
truncated, and its `rms`: the root mean square of the difference, by that of the original. All others are shares of the
range of the original's output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import exporters
from bench.levels import LEVELS, aligned_faces, run_engine, with_levels
from cameo.backends import backend
from cameo.bundle import Bundle, NetworkEntry
from cameo.errors import CheckpointError
from cameo.session import Tensor
from exporters.recipe import Model
from metrics import psnr
from pipeline.recipe_stages import weights_in

GENERATOR, RECOGNISER = "fusion-generator", "curricularface"
CROP_SIZE = 256
RESULT, PSNR, IDENTITY, RMS = "result", "psnr", "identity", "rms"


def feeds_of(entry: NetworkEntry, batch: int) -> dict[str, Tensor]:
    """What the family makes of aligned faces."""
    side = next(int(spec.shape[1]) for spec in entry.inputs if spec.name == "image")
    photos = list(aligned_faces(side, batch))
    one_by_one = list(exporters.examples_of(entry.name).feeds(entry.inputs, photos, (side, side)))
    return {name: np.concatenate([feeds[name] for feeds in one_by_one]) for name in one_by_one[0]}


def original_outputs(network: str, checkpoint: Path, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the faithful network gives; of the generator, also the face before it is truncated, in levels of 0..255."""
    if network != GENERATOR:
        with exporters.open_original(network, checkpoint) as session:
            return session.run(feeds)
    import torch

    from exporters.face_fusion.export_generator import load_generator

    image = (torch.from_numpy(feeds["image"]).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    others = [torch.from_numpy(feeds[name]) for name in ("identity", "keypoints_fused", "keypoints_target")]
    with torch.inference_mode():
        face = load_generator(checkpoint, network)(image, *others) * 0.5 + 0.5
    levels = (face.clamp(0, 1) * 255 + 0.5).permute(0, 2, 3, 1).numpy()  # a half, as the exported graph adds it
    return {LEVELS: levels, RESULT: levels.astype(np.uint8)}


def checkpoint_in(folder: Path, network: str, model: Model) -> Path:
    """The network's file in the model's folder, or that folder where it has several.

    Raises:
        CheckpointError: it is not there.
    """
    found = weights_in(folder, network, model)
    if found is None:
        raise CheckpointError(f"{folder} has no checkpoint of {network}, expected what the bench writes: run it again")
    return found.path


def compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest difference of each output: of faces in levels, of others as a share of the original's range."""
    differences = {}
    for name in expected.keys() & found.keys():
        largest = float(np.abs(found[name].astype(np.float64) - expected[name]).max())
        differences[name] = largest if name in (RESULT, LEVELS) else largest / float(np.ptp(expected[name]))
    return differences


def relative_rms(expected: Tensor, found: Tensor) -> float:
    """The root of the mean square of the difference, by that of what was expected."""
    difference = found.astype(np.float64) - expected
    return float(np.sqrt(np.square(difference).mean() / np.square(expected.astype(np.float64)).mean()))


def similarity(recogniser: Path, faces: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    """The least cosine between the identities of two faces each."""
    with exporters.open_original(RECOGNISER, recogniser) as session:
        one, other = (session.run({"image": crops})["embedding"] for crops in (faces, others))
    return float((one * other).sum(axis=1).min())


def main(network: str, batch: str, weights: str, bundle: str) -> int:
    """Print the differences."""
    opened = Bundle(bundle)
    entry = opened.network(network)
    model = exporters.model(opened.manifest.model)
    feeds = feeds_of(entry, int(batch))
    expected = original_outputs(network, checkpoint_in(Path(weights), network, model), feeds)
    found = {}
    for engine in entry.engines:
        if backend(engine.engine).why_unavailable(engine.precision):
            continue
        outputs = run_engine(engine.engine, opened.verified(engine.file), feeds, engine.precision)
        differences = compare(expected, outputs)
        if RESULT in outputs and network == GENERATOR:
            recogniser = checkpoint_in(Path(weights), RECOGNISER, model)
            differences[PSNR] = psnr.measure(expected[RESULT], outputs[RESULT])
            differences[IDENTITY] = similarity(recogniser, expected[RESULT], outputs[RESULT])
            if engine.precision == "fp32":
                levels = with_levels(engine.engine, opened.verified(entry.onnx), feeds)
                differences |= compare(expected, {LEVELS: levels})
                differences[RMS] = relative_rms(expected[LEVELS], levels)
        found[f"{engine.engine} {engine.precision}"] = differences
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
