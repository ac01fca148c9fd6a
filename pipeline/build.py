"""Runs a model's recipes and puts the results together as a bundle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engines
import optimize
from cameo import __version__
from cameo.artifact import Artifact, size_of
from cameo.bundle import (
    MANIFEST_NAME,
    MODES,
    Bundle,
    ConvertedGraph,
    EngineEntry,
    Manifest,
    NetworkEntry,
    Profile,
    StoredFile,
)
from cameo.errors import BundleError, CheckpointError, EngineError, EngineUnavailable, OutputError, PhotoError
from cameo.tensors import TensorSpec
from exporters.prune_channels import RECORD as PRUNING_RECORD
from exporters.prune_channels import Photos, PruneChannels
from exporters.trainable import trainable_networks
from pipeline.calibration import calibration_photos
from pipeline.fingerprint import tool_versions
from pipeline.prune import fidelity
from pipeline.recipe import Model, Recipe
from pipeline.recommend import FEW_PHOTOS, INT8, with_recommendations
from pipeline.store import Result, Store, remove_abandoned

Say = Callable[[str], None]

TOOLS = ("tensorflow-cpu", "torch", "tf2onnx", "onnx", "onnxsim", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt")


@dataclass(frozen=True)
class BuildOptions:
    """What a user may ask of a build. Without `engines`, every engine of the recipe that can be built here is.

    Without `precisions`, all of the recipe. `calibration` is the folder of photos for conversions, None the demo's.
    With `prune`, a share of channels, the bundle also gets the networks without them, in the mode "balanced";
    `recover_steps` of learning from the photos of `calibration` make up for it.
    """

    engines: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("sm_86", "sm_89", "sm_120")
    precisions: tuple[str, ...] = ()
    calibration: Path | None = None
    prune: float = 0.0
    recover_steps: int = 0


@dataclass(frozen=True)
class _Part:
    """One network, built: its graph in FP32 and in the precisions converted to, and the engines of those graphs.

    `variant` is "", or "pruned" for what was built from the pruned checkpoint `weights`.
    """

    recipe: Recipe
    weights: Artifact
    variant: str
    precisions: tuple[str, ...]
    graphs: Mapping[str, Result]
    engines: Mapping[tuple[str, str], Result]


def build(model: Model, weights: Path, out: Path, options: BuildOptions, say: Say) -> bool:
    """Build `model` from the folder `weights` into the bundle `out`; return whether anything had to be done.

    Raises:
        CheckpointError: a weight file is missing or wrong.
        EngineUnavailable: an engine that was asked for cannot be built here, or in none of the precisions asked for.
        EngineError: a precision that no network of the model is built in.
        PhotoError: no photos to calibrate a conversion on.
        OutputError: `out` cannot be written, or holds something that is not a bundle.
    """
    _check(model, options)
    wanted = _buildable(model, options, say)
    files = _weight_files(model, weights, say)
    _refuse_foreign(out)
    store = Store(out.parent / ".store", say)
    parts = [
        part
        for recipe in model.recipes
        if recipe.network in files
        for part in _build_parts(recipe, files[recipe.network], wanted, options, store, say)
    ]
    assets = {name: weights / file for name, file in model.assets.items() if (weights / file).is_file()}
    assembled = _assemble(model, parts, assets, out, options)
    say(f"{store.built} stages built, {store.reused} up to date")
    return store.built > 0 or assembled


def _check(model: Model, options: BuildOptions) -> None:
    known = dict.fromkeys(name for recipe in model.recipes for name in (*recipe.precisions, *recipe.on_request))
    for name in options.precisions:
        if name not in known:
            raise EngineError(f"{model.name} is not built in '{name}': choose from {', '.join(known)}")
    if options.prune and not any(recipe.network in trainable_networks() for recipe in model.recipes):
        raise CheckpointError(f"{model.name} cannot be pruned: choose a model of {', '.join(trainable_networks())}")
    if options.recover_steps and not options.prune:
        raise EngineError("there is nothing to recover without pruning: name a share of channels, --prune 0.3")
    if options.recover_steps and options.calibration is None:
        raise PhotoError("recovery learns from photos and got none: name a folder of them, --calibration")


def _buildable(model: Model, options: BuildOptions, say: Say) -> tuple[str, ...]:
    """The engines to build: those asked for, or all of the recipes' that this machine can build."""
    known = dict.fromkeys(name for recipe in model.recipes for name in recipe.engines)
    reasons = {name: engines.engine(name).why_not_buildable() for name in options.engines or known}
    for name, reason in reasons.items():
        if reason and name in options.engines:
            raise EngineUnavailable(f"the engine '{name}' cannot be built here: {reason}")
        if reason:
            say(f"leaving out {name}: {reason}")
    return tuple(name for name, reason in reasons.items() if not reason)


def _weight_files(model: Model, folder: Path, say: Say) -> dict[str, Path]:
    """The weight file of each network that has one in `folder`."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}: --weights takes the folder that holds {_expected(model)}")
    found = {}
    for recipe in model.recipes:
        candidates = [folder / name for name in recipe.weight_files if (folder / name).exists()]
        if candidates:
            found[recipe.network] = candidates[0]
        elif not recipe.optional:
            raise CheckpointError(
                f"{folder} has no {' or '.join(recipe.weight_files)}, which {recipe.network} needs: "
                f"a {model.name} folder holds {_expected(model)}"
            )
        else:
            say(f"no {recipe.weight_files[0]}: {model.stand_ins.get(recipe.network, 'the flow does without it')}")
    return found


def _expected(model: Model) -> str:
    return ", ".join(recipe.weight_files[0] + (" (optional)" if recipe.optional else "") for recipe in model.recipes)


def _build_parts(
    recipe: Recipe, weights: Path, wanted: Iterable[str], options: BuildOptions, store: Store, say: Say
) -> list[_Part]:
    """The network as it is, and pruned if that is asked for and possible."""
    source = Artifact.of(weights) if weights.is_file() else Artifact(weights, "", "")
    parts = [_build_part(recipe, source, wanted, options, store, say)]
    if options.prune and recipe.network in trainable_networks():
        photos = Photos() if options.calibration is None else Photos.of(options.calibration)
        stage = PruneChannels(
            recipe.network,
            options.prune,
            photos=photos,
            recover_steps=options.recover_steps,
            checkpoints=(store.folder / f"recovering-{recipe.network}").resolve(),
        )
        pruned = store.run(stage, source)
        say(f"{recipe.network} pruned: {fidelity(pruned.facts)}")
        parts.append(_build_part(recipe, pruned.artifact, wanted, options, store, say, "pruned"))
    return parts


def _build_part(
    recipe: Recipe,
    source: Artifact,
    wanted: Iterable[str],
    options: BuildOptions,
    store: Store,
    say: Say,
    variant: str = "",
) -> _Part:
    result = store.run(recipe.exporter, source)
    for stage in recipe.pass_stages():
        result = store.run(stage, result.artifact)
    precisions, pairs = _chosen(recipe, wanted, options)
    if variant:  # pruning and INT8 are two ways to the same mode
        pairs = [(engine, graph) for engine, graph in pairs if graph != INT8]
    graphs = {"fp32": result}
    for precision in dict.fromkeys(graph for _, graph in pairs if graph not in graphs):
        photos = calibration_photos(options.calibration)
        graphs[precision] = store.run(recipe.converter(precision, photos), result.artifact)
        if precision == INT8 and len(photos) < FEW_PHOTOS:
            say(f"{recipe.network}: {FEW_PHOTOS} photos or more make better INT8 than {len(photos)}: see --calibration")

    def engine(name: str, graph: str) -> Result:
        return store.run(recipe.builder(name, options.targets), graphs[graph].artifact)

    built = with_recommendations(recipe, {pair: engine(*pair) for pair in pairs}, engine, store, say)
    return _Part(recipe, source, variant, precisions, graphs, built)


def _chosen(
    recipe: Recipe, wanted: Iterable[str], options: BuildOptions
) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """The precisions to build, and each engine with the precision of a graph that it is built from.

    A companion that is built for none of the engines, or in none of the precisions asked for, still needs one: its
    first, which runs anywhere.
    """
    names = [name for name in wanted if name in recipe.engines] or recipe.engines[:1]
    known = (*recipe.precisions, *recipe.on_request)
    precisions = tuple(p for p in known if p in options.precisions) if options.precisions else recipe.precisions
    if not precisions:
        names, precisions = recipe.engines[:1], recipe.precisions[:1]
    pairs = [
        (name, graph)
        for name in names
        for graph, runs in engines.engine(name).PRECISIONS.items()
        if not set(runs).isdisjoint(precisions)
    ]
    if not pairs:
        raise EngineUnavailable(
            f"{recipe.network} has no engine in {', '.join(precisions)} among {', '.join(names)}: "
            "leave out --engines or --precision, or choose another"
        )
    return precisions, pairs


def _refuse_foreign(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST_NAME).exists())):
        raise OutputError(f"{out} exists and is no bundle: choose a new folder with --out, nothing was changed")


def _assemble(
    model: Model, parts: Sequence[_Part], assets: Mapping[str, Path], out: Path, options: BuildOptions
) -> bool:
    """Write the bundle beside `out`, then put it in its place as a whole; return False if `out` is it already."""
    files: dict[str, Path] = {}

    def place(path: str, artifact: Artifact) -> StoredFile:
        files[path] = artifact.path
        return StoredFile(path, artifact.format, artifact.sha256, size_of(artifact.path))

    manifest = Manifest(
        model.name,
        model.flow,
        {part.recipe.network: _network_entry(part, _others(part, parts), place) for part in parts if not part.variant},
        {name: place(f"assets/{path.name}", Artifact.of(path)) for name, path in assets.items()},
        {"cameo": __version__, "tools": tool_versions(TOOLS), "targets": list(options.targets)},
    )
    for kind in ("work", "previous"):
        remove_abandoned(out.parent, f".{out.name}.{kind}-")
    if _is_current(out, manifest):
        return False
    work = out.parent / f".{out.name}.work-{os.getpid()}"
    previous = out.parent / f".{out.name}.previous-{os.getpid()}"
    try:
        for path, source in files.items():
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        (work / MANIFEST_NAME).write_text(manifest.to_json())
        if out.exists():
            out.rename(previous)
        work.rename(out)
    except OSError as error:
        if previous.exists() and not out.exists():
            previous.rename(out)
        raise OutputError(f"cannot write the bundle {out} ({error.strerror}): free space or choose --out") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
    return True


def _is_current(out: Path, manifest: Manifest) -> bool:
    """Whether `out` holds exactly this bundle, every file whole."""
    try:
        present = Bundle(out)
        if present.manifest.to_json() != manifest.to_json():
            return False
        for network in present.networks.values():
            for file in network.files:
                present.verified(file)
        for file in present.manifest.assets.values():
            present.verified(file)
    except BundleError:
        return False
    return True


def _others(part: _Part, parts: Iterable[_Part]) -> list[_Part]:
    """The variants of the same network."""
    return [other for other in parts if other.variant and other.recipe.network == part.recipe.network]


def _network_entry(
    part: _Part, variants: Sequence[_Part], place: Callable[[str, Artifact], StoredFile]
) -> NetworkEntry:
    name = part.recipe.network
    inputs, outputs = tensor_specs(part.graphs["fp32"].artifact.path)
    return NetworkEntry(
        name,
        inputs,
        outputs,
        place(f"networks/{name}.onnx", part.graphs["fp32"].artifact),
        {"file": part.weights.path.name, "sha256": part.weights.sha256, "path": str(part.weights.path.resolve())},
        tuple(
            entry
            for one in (part, *variants)
            for engine, graph in one.engines
            for entry in _engine_entries(one, engine, graph, place)
        ),
        {
            made: _converted(one, made, precision, place)
            for one in (part, *variants)
            for precision in one.graphs
            if (made := _made(one, precision))
        },
    )


def _made(part: _Part, precision: str) -> str:
    """What was done to the network's own graph: "fp16", "pruned", "pruned.fp16"; "" for that graph."""
    return ".".join(filter(None, (part.variant, precision if precision != "fp32" else "")))


def _converted(part: _Part, made: str, precision: str, place: Callable[[str, Artifact], StoredFile]) -> ConvertedGraph:
    graph, path = part.graphs[precision].artifact, f"networks/{part.recipe.network}.{made}"
    if precision == "fp32":
        record, name = part.weights.path.with_name(PRUNING_RECORD), PRUNING_RECORD
    else:
        name = optimize.conversion_to(precision).RECORD
        record = graph.path.with_name(name)
    return ConvertedGraph(place(f"{path}.onnx", graph), place(f"{path}.{name}", Artifact.of(record)))


def _engine_entries(
    part: _Part, engine: str, graph: str, place: Callable[[str, Artifact], StoredFile]
) -> list[EngineEntry]:
    result = part.engines[engine, graph]
    name = ".".join(filter(None, (part.recipe.network, engine, _made(part, graph))))
    file = place(f"engines/{name}{result.artifact.path.suffix}", result.artifact)
    facts = dict(result.facts)
    profiles = tuple(Profile(**_tuples(profile)) for profile in facts.pop("profiles", ()))
    targets = tuple(facts.pop("targets", ()))
    mode = MODES[1] if part.variant or graph == INT8 else MODES[0]
    return [
        EngineEntry(engine, precision, file, targets, profiles, facts, mode)
        for precision in engines.engine(engine).PRECISIONS[graph]
        if precision in part.precisions
    ]


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def tensor_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of the ONNX graph at `path`."""
    import onnx

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
        return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)

    graph = onnx.load(path, load_external_data=False).graph
    return tuple(map(spec, graph.input)), tuple(map(spec, graph.output))
