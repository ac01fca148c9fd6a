"""What cannot work in a request is said before any of it is done."""

from __future__ import annotations

from pathlib import Path

import exporters
from cameo.errors import CheckpointError, RequestError
from compress.recovery.photos import read_photos
from exporters.recipe import Model
from optimize._conversion.calibration import Calibration
from pipeline.build_network import BuildOptions, Say
from pipeline.calibration import calibration_photos
from pipeline.prune import check_ratio, check_steps
from pipeline.recipe_stages import exporter_of


def check(model: Model, options: BuildOptions, say: Say) -> None:
    """Raises CameoError if the model cannot be built like that; says which calibration photos are left out."""
    for network, part in options.parts.items():
        if network not in model.networks:
            known_networks = ", ".join(model.networks)
            raise CheckpointError(f"{model.name} has no network '{network}': --part names one of {known_networks}")
        exporter_of(network, part)
    recipes = [exporters.recipe_of(network) for network in model.networks]
    known = dict.fromkeys(name for recipe in recipes for name in (*recipe.precisions, *recipe.on_request))
    for name in options.precisions:
        if name not in known:
            raise RequestError(f"{model.name} is not built in '{name}': choose from {', '.join(known)}")
    _check_lighter(model, options)
    if options.calibration is not None:
        _check_photos(options.calibration, bool(options.recover_steps), say)


def _check_lighter(model: Model, options: BuildOptions) -> None:
    check_ratio(options.prune, "--prune")
    check_steps(options.recover_steps)
    lighter = options.prune or options.fast
    trainable = exporters.trainable_networks()
    if lighter and not set(model.networks) & set(trainable):
        raise CheckpointError(f"{model.name} cannot be pruned: choose a model of {', '.join(trainable)}")
    if options.fast and not options.recover_steps:
        raise RequestError("a student that has not learned draws nothing: name the steps, --recover-steps=1500")
    if options.recover_steps and not (lighter or options.learned):
        raise RequestError("there is nothing to recover: name --prune=0.3, --fast or --precision=int8")
    if options.recover_steps and options.calibration is None:
        raise RequestError("recovery learns from photos and got none: name a folder of them, --calibration")


def _check_photos(place: Path, learning: bool, say: Say) -> None:
    photos = calibration_photos(place)
    _, skipped = Calibration.of(photos).readable()
    if skipped:
        say(f"{len(skipped)} of {len(photos)} calibration photos cannot be read, left out: {', '.join(skipped)}")
    if learning:
        read_photos(photos, side=1)
