"""Runs a model's recipes and puts the results together as a bundle."""

from __future__ import annotations

from pathlib import Path

import engines
import exporters
from cameo.artifact import Artifact
from cameo.errors import CheckpointError, EngineUnavailable, PhotoError
from cameo.images import read_photo
from exporters.recipe import Model
from pipeline.assemble import assemble, refuse_foreign
from pipeline.build_network import BuildOptions, NetworkBuild, Say
from pipeline.fingerprint import tool_versions
from pipeline.recipe_stages import weights_in
from pipeline.request import check
from pipeline.store import Store
from pipeline.whereabouts import remember


def build(model: Model, weights: Path, out: Path, options: BuildOptions, say: Say) -> bool:
    """Build `model` from the folder `weights` into the bundle `out`; return whether anything had to be done.

    Raises:
        CheckpointError: a weight file is missing or wrong.
        EngineUnavailable: an engine that was asked for cannot be built here, or in none of the precisions asked for.
        RequestError: a precision that no network of the model is built in, or options that do not go together.
        PhotoError: no photos to calibrate a conversion on.
        OutputError: `out` cannot be written, or holds something that is not a bundle.
    """
    check(model, options, say)
    wanted = _buildable(model, options, say)
    found = _weights(model, weights, say)
    refuse_foreign(out)
    store = Store(out.parent / ".store", say)
    jobs = [
        NetworkBuild(exporters.recipe_of(network), checkpoint, wanted, options, store, say)
        for network, checkpoint in found.items()
    ]
    for job in jobs:
        job.check()
    assets = {name: weights / file for name, file in model.assets.items() if (weights / file).is_file()}
    for path in assets.values():
        _check_picture(path)
    graphs = [job.graph() for job in jobs]
    parts = [part for job, graph in zip(jobs, graphs, strict=True) for part in job.parts(graph)]
    remember(store, found.values())
    assembled = assemble(
        model, parts, assets, out, {"tools": tool_versions(store.tools), "targets": list(options.targets)}
    )
    say(f"{store.built} stages built, {store.reused} up to date")
    return store.built > 0 or assembled


def _buildable(model: Model, options: BuildOptions, say: Say) -> tuple[str, ...]:
    """The engines to build: those asked for, or all of the recipes' that this machine can build."""
    known = dict.fromkeys(name for network in model.networks for name in exporters.recipe_of(network).engines)
    reasons = {name: engines.engine(name).why_not_buildable() for name in options.engines or known}
    for name, reason in reasons.items():
        if reason and name in options.engines:
            raise EngineUnavailable(f"the engine '{name}' cannot be built here: {reason}")
        if reason:
            say(f"leaving out {name}: {reason}")
    return tuple(name for name, reason in reasons.items() if not reason)


def _weights(model: Model, folder: Path, say: Say) -> dict[str, Artifact]:
    """The checkpoint of each network that has one in `folder`."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}: --weights takes the folder that holds {_expected(model)}")
    found = {}
    for network in model.networks:
        files = exporters.files_of(network, model)
        checkpoint = weights_in(folder, network, model)
        if checkpoint is not None:
            found[network] = checkpoint
        elif network not in model.stand_ins:
            raise CheckpointError(
                f"{folder} has no {' and no '.join(files.missing(folder))}, which {network} needs: "
                f"a {model.name} folder holds {_expected(model)}"
            )
        else:
            say(f"no {' and no '.join(files.usual)}: {model.stand_ins[network]}")
    for name, file in model.assets.items():
        if not (folder / file).is_file():
            say(f"no {file}: {model.stand_ins[name]}")
    return found


def _check_picture(path: Path) -> None:
    """Raises CheckpointError where the authors' picture at `path` is none."""
    try:
        read_photo(path)
    except PhotoError as error:
        raise CheckpointError(f"{str(error).removesuffix('.')}, or remove it for what stands in") from error


def _expected(model: Model) -> str:
    networks = [(name, network) for network in model.networks for name in exporters.files_of(network, model).usual]
    files = [*networks, *((file, asset) for asset, file in model.assets.items())]
    return ", ".join(name + (" (optional)" if what in model.stand_ins else "") for name, what in files)
