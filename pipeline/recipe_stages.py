"""The stages that a recipe asks for, and the checkpoints that they start from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import engines
import exporters
import optimize
from cameo.artifact import Artifact
from engines import EngineOptions
from exporters.checkpoints.parts import no_parts
from exporters.recipe import Model, Recipe
from metrics.examples import Examples
from optimize._conversion.calibration import Calibration
from pipeline.stage import Stage
from pipeline.store import Result, Store


def weights_in(folder: Path, network: str, model: Model | None = None) -> Artifact | None:
    """The checkpoint of `network` in the folder of its authors' files, or of a `model`'s; None where it is not there.

    One that consists of several files is the folder, hashed over those files alone.
    """
    names = exporters.files_of(network, model).found(folder)
    if names is None:
        return None
    return Artifact.of(folder / names[0]) if len(names) == 1 else Artifact.of_files(folder, names)


def exporter_of(network: str, part: str = "") -> Stage:
    """The exporter that reads one part of a checkpoint; "" is the one to be read if nobody says.

    Raises:
        CheckpointError: checkpoints of this network have no parts.
    """
    stage: Any = exporters.family_of(network).exporter(network)
    if part and not hasattr(stage, "part"):
        raise no_parts(network, part)
    return cast(Stage, replace(stage, part=part) if part else stage)


def exported(network: str, weights: Artifact, store: Store, part: str = "") -> Iterator[tuple[Stage, Result]]:
    """Every stage from a checkpoint to the clean FP32 graph, with its result; the last one's is the graph."""
    stages = (exporter_of(network, part), *pass_stages(exporters.recipe_of(network)))
    artifact = weights
    for stage in stages:
        result = store.run(stage, artifact)
        yield stage, result
        artifact = result.artifact


def graph_of(network: str, weights: Artifact, store: Store, part: str = "") -> Result:
    """The clean FP32 graph of a checkpoint."""
    *_, (_, result) = exported(network, weights, store, part)
    return result


def pass_stages(recipe: Recipe) -> list[Stage]:
    """The passes, in order."""
    return [optimize.graph_pass(name) for name in recipe.passes]


def converter(recipe: Recipe, precision: str, photos: Sequence[Path], original: Artifact | None = None) -> Stage:
    """The stage that converts the FP32 graph to `precision`, as faithful on these photos as the gates want it.

    Networks that take any size are calibrated at the one that their first input range is made for. A variant's graph
    has an `original`, the network's own.
    """
    size = recipe.ranges[0].opt[1:3] if recipe.ranges else Calibration.size
    limits = [gate.limit for gate in recipe.gates if gate.metric == "psnr" and gate.precision == precision]
    calibration = Calibration.of(photos, size, exporters.examples_of(recipe.network))
    return cast(Stage, optimize.conversion_to(precision).conversion(calibration, *limits[:1], original=original))


def examples_for(graph: Path) -> Examples:
    """How photos feed an ONNX graph: as the network that exports named it after, else as its one image."""
    import onnx

    name = onnx.load(graph, load_external_data=False).graph.name
    return exporters.examples_of(name) if name in exporters.network_names() else Examples()


def builder(recipe: Recipe, engine: str, targets: tuple[str, ...]) -> Stage:
    """The stage that builds one engine of the network."""
    return cast(Stage, engines.engine(engine).builder(EngineOptions(recipe.ranges, targets)))
