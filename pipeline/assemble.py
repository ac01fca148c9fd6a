"""Puts what was built together as a bundle: beside the old one, then in its place as a whole (docs/decisions/005)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import engines
import optimize
from cameo import __version__
from cameo.artifact import Artifact, size_of
from cameo.bundle import (
    MANIFEST_NAME,
    Bundle,
    ConvertedGraph,
    EngineEntry,
    Manifest,
    NetworkEntry,
    Profile,
    StoredFile,
)
from cameo.errors import BundleError, OutputError
from cameo.modes import MODES
from cameo.tensors import TensorSpec
from compress.teaching import RECORD as TEACHING_RECORD
from exporters.recipe import Model
from optimize._conversion.calibration import tensor_spec
from pipeline.build_network import ITSELF, Part
from pipeline.store import remove_abandoned


def refuse_foreign(out: Path) -> None:
    """Raises OutputError if `out` holds something that is not a bundle."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST_NAME).exists())):
        raise OutputError(f"{out} exists and is no bundle: choose a new folder with --out, nothing was changed")


def assemble(
    model: Model, parts: Sequence[Part], assets: Mapping[str, Path], out: Path, provenance: Mapping[str, Any]
) -> bool:
    """Write the bundle beside `out`, then put it in its place as a whole; return False if `out` is it already.

    `provenance` is what it shall say of how it was built.

    Raises:
        OutputError: it cannot be written, or `out` is something else (`refuse_foreign`).
    """
    refuse_foreign(out)
    files: dict[str, Path] = {}

    def place(path: str, artifact: Artifact) -> StoredFile:
        files[path] = artifact.path
        return StoredFile(path, artifact.format, artifact.sha256, size_of(artifact.path))

    manifest = Manifest(
        model.name,
        model.flow,
        {
            part.recipe.network: _network_entry(part, _others(part, parts), place)
            for part in parts
            if part.form is ITSELF
        },
        {name: place(f"assets/{path.name}", Artifact.of(path)) for name, path in assets.items()},
        {"cameo": __version__, **provenance},
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


def _others(part: Part, parts: Iterable[Part]) -> list[Part]:
    """The variants of the same network."""
    return [other for other in parts if other.form is not ITSELF and other.recipe.network == part.recipe.network]


def _network_entry(part: Part, variants: Sequence[Part], place: Callable[[str, Artifact], StoredFile]) -> NetworkEntry:
    name = part.recipe.network
    inputs, outputs = tensor_specs(part.graphs["fp32"].artifact.path)
    return NetworkEntry(
        name,
        inputs,
        outputs,
        place(f"networks/{name}.onnx", part.graphs["fp32"].artifact),
        _source(part),
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


def _source(part: Part) -> dict[str, str]:
    """Where the network comes from; which part of the file is said only where somebody chose."""
    source = {"file": part.weights.name, "sha256": part.weights.sha256}
    return source | ({"part": part.part} if part.part else {})


def _made(part: Part, precision: str) -> str:
    """What was done to the network's own graph: "fp16", "pruned", "pruned.fp16"; "" for that graph."""
    return ".".join(filter(None, (part.form.name, precision if precision != "fp32" else "")))


def _converted(part: Part, made: str, precision: str, place: Callable[[str, Artifact], StoredFile]) -> ConvertedGraph:
    graph, path = part.graphs[precision].artifact, f"networks/{part.recipe.network}.{made}"
    if precision == "fp32":
        record, name = part.weights.path.with_name(TEACHING_RECORD), TEACHING_RECORD
    else:
        name = optimize.conversion_to(precision).RECORD
        record = graph.path.with_name(name)
    return ConvertedGraph(place(f"{path}.onnx", graph), place(f"{path}.{name}", Artifact.of(record)))


def _engine_entries(
    part: Part, engine: str, graph: str, place: Callable[[str, Artifact], StoredFile]
) -> list[EngineEntry]:
    result = part.engines[engine, graph]
    name = ".".join(filter(None, (part.recipe.network, engine, _made(part, graph))))
    file = place(f"engines/{name}{result.artifact.path.suffix}", result.artifact)
    facts = dict(result.facts)
    profiles = tuple(Profile.of(profile) for profile in facts.pop("profiles", ()))
    targets = tuple(facts.pop("targets", ()))
    conversion = optimize.conversions().get(graph)
    mode = max(part.form.mode, conversion.MODE if conversion else MODES[0], key=MODES.index)
    return [
        EngineEntry(engine, precision, file, targets, profiles, facts, mode)
        for precision in engines.engine(engine).PRECISIONS[graph]
        if precision in part.precisions
    ]


def tensor_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of the ONNX graph at `path`."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return tuple(map(tensor_spec, graph.input)), tuple(map(tensor_spec, graph.output))
