"""Finds what a bundle is to be compared with, and runs the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cameo
import exporters
from cameo.artifact import Artifact
from cameo.bundle import Bundle
from cameo.errors import CheckpointError, PhotoError
from cameo.images import photos_in, read_photo
from exporters import model
from pipeline.stages import weights_in
from pipeline.whereabouts import whereabouts
from validate.compare import ValidationOptions, run_validation
from validate.flow import NAME as FLOW
from validate.flow import feeds_of
from validate.report import FlowPicture, write
from validate.results import Report

DEMO_PHOTO = Path(__file__).resolve().parents[1] / "demo" / "photo.jpg"


def validate_bundle(
    folder: Path,
    weights: Path | None,
    photos: Path | None,
    say: Callable[[str], None],
    options: ValidationOptions | None = None,
) -> Report:
    """Compare the bundle with its originals, write report.json and report.html into it, and return the report.

    Raises:
        CheckpointError: an original is no longer where it was, or is another file than the bundle was built from.
        PhotoError: no photos.
    """
    bundle = Bundle(folder)
    known = model(bundle.manifest.model)
    recipes = {name: exporters.recipe_of(name) for name in bundle.networks}
    originals = {name: _original(bundle, name, weights) for name in bundle.networks}
    gates = [replace(gate, network=name) for name in bundle.networks for gate in recipes[name].gates]
    gates += [replace(gate, network=FLOW) for gate in known.flow_gates]
    built = {(e.engine, e.precision, e.mode) for network in bundle.networks.values() for e in network.engines}
    gates = [gate for gate in gates if any(gate.covers(gate.network, *engine) for engine in built)]
    sizes = {name: recipes[name].sizes for name in bundle.networks}
    parts = {name: str(network.source.get("part", "")) for name, network in bundle.networks.items()}
    options = options or ValidationOptions(by_network=sizes, flow_options=known.flow_options, parts=parts)
    chosen = _photos(photos or DEMO_PHOTO)
    say(f"comparing {', '.join(originals)} with their originals on {len(chosen)} photo(s)")
    report = run_validation(folder, originals, chosen, gates, options)
    for photo in report.skipped_photos:
        say(f"skipped {photo.name}: {photo.why}")
    unreadable = {photo.name for photo in report.skipped_photos}
    whole = [path for path in chosen if path.name not in unreadable]
    write(report, folder, _flow_picture(folder, whole, known.flow_options))
    return report


def _flow_picture(folder: Path, photos: Sequence[Path], options: Mapping[str, Any]) -> FlowPicture:
    """The first photos and what the whole flow makes of them, on the engines that `cameo.load` picks here."""
    with cameo.load(folder, **options) as loaded:
        first = {path.name: read_photo(path) for path in photos[: len(loaded.takes)]}
        pixels = next(iter(feeds_of(loaded.takes, first).values()))
        made = loaded.run(pixels)
        engines = {entry.label for entry in loaded.engines.values()}
        notes = " ".join(filter(None, (*loaded.flow.notes, made.note)))
    caption = f"{' and '.join(first)} through the whole flow on {', '.join(sorted(engines))}. {notes}"
    return FlowPicture.of(pixels, made.image, caption)


def _original(bundle: Bundle, network: str, weights: Path | None) -> Path:
    """The file of the authors (or the folder of several) that the bundle's network was built from."""
    source = bundle.networks[network].source
    if weights is None:
        place = whereabouts(bundle.folder, str(source["sha256"]))
        found = _there(place, network) if place is not None else None
    else:
        found = weights_in(weights, network) if weights.is_dir() else None
    if found is None:
        raise CheckpointError(
            f"the original of {network} is not {f'in {weights}' if weights else 'where the bundle was built from'}: "
            f"name the folder that holds {source['file']} with --weights"
        )
    if found.sha256 != source["sha256"]:
        raise CheckpointError(
            f"{found.path} is not the file that the bundle was built from (expected sha256 "
            f"{str(source['sha256'])[:12]}...): name the right folder with --weights, or build the bundle again"
        )
    return found.path


def _there(place: Path, network: str) -> Artifact | None:
    """The checkpoint at the place where one lay, if something still lies there."""
    if place.is_dir():
        return weights_in(place, network)
    return Artifact.of(place) if place.is_file() else None


def _photos(place: Path) -> Sequence[Path]:
    if place.is_dir():
        return photos_in(place)
    if not place.is_file():
        raise PhotoError(f"there is no photo or folder {place}: check --photos")
    return [place]
