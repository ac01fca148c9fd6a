"""Finds what a bundle is to be compared with, and runs the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cameo
import exporters
from cameo.artifact import Artifact
from cameo.bundle import Bundle
from cameo.counting import count_of
from cameo.errors import CheckpointError, PhotoError
from cameo.images import photos_in
from exporters import model
from exporters.recipe import Model
from metrics.timing import Rounds
from pipeline.bar import StageBar
from pipeline.recipe_stages import weights_in
from pipeline.stage import Stage
from pipeline.store import Store
from pipeline.whereabouts import whereabouts
from validate.bundle import ValidationOptions, run_validation
from validate.comparisons import CompareFlow, CompareNetwork, Found, Run
from validate.flow import NAME as FLOW
from validate.readable import readable
from validate.report import FlowPicture, write
from validate.results import Report

DEMO_PHOTO = Path(__file__).resolve().parents[1] / "demo" / "photo.jpg"


@dataclass(frozen=True)
class Limits:
    """How much to compare: so many photos, none with a longer side (0: all, as they are), and only what is new.

    Without `keep`, all is measured now, and nothing kept: for a bench. Speeds are taken in so many `rounds` (0: in
    those of `ValidationOptions`).
    """

    max_photos: int = 0
    max_side: int = 0
    keep: bool = False
    rounds: int = 0


def validate_bundle(
    folder: Path,
    weights: Path | None,
    photos: Path | None,
    say: Callable[[str], None],
    options: ValidationOptions | None = None,
    limits: Limits = Limits(),
) -> Report:
    """Compare the bundle with its originals, write report.json and report.html into it, and return the report.

    What was compared before, on this machine and with the same files, is not compared again where `limits` say so.

    Raises:
        CheckpointError: an original is no longer where it was, or is another file than the bundle was built from.
        PhotoError: no photos.
    """
    bundle = Bundle(folder)
    known = model(bundle.manifest.model)
    recipes = {name: exporters.recipe_of(name) for name in bundle.networks}
    originals = {name: _original(bundle, known, name, weights) for name in bundle.networks}
    gates = [replace(gate, network=name) for name in bundle.networks for gate in recipes[name].gates]
    gates += [replace(gate, network=FLOW) for gate in known.flow_gates]
    built = {(e.engine, e.precision, e.mode) for network in bundle.networks.values() for e in network.engines}
    gates = [gate for gate in gates if any(gate.covers(gate.network, *engine) for engine in built)]
    sizes = {name: recipes[name].sizes for name in bundle.networks}
    parts = {name: str(network.source.get("part", "")) for name, network in bundle.networks.items()}
    options = options or ValidationOptions(by_network=sizes, declaring=known.declaring, parts=parts)
    options = replace(options, max_side=limits.max_side) if limits.max_side else options
    options = replace(options, rounds=Rounds(limits.rounds, limits.rounds)) if limits.rounds else options
    there = _photos(photos or DEMO_PHOTO)
    chosen = there[: limits.max_photos or None]
    photos_told = count_of(len(there), "photo")
    of_all = f"{len(chosen)} of {photos_told}" if len(chosen) < len(there) else photos_told
    say(f"comparing {', '.join(originals)} with their originals on {of_all}")
    store = Store(folder.parent / ".store", say) if limits.keep else None
    with StageBar("comparing", say) as bar:
        report = run_validation(
            folder, originals, chosen, gates, options, bar.show, None if store is None else _kept(store)
        )
    if store is not None and store.reused:
        say(f"{store.reused} of {store.reused + store.built} comparisons were made before (--again makes them anew)")
    for photo in report.skipped_photos:
        say(f"skipped {photo.name}: {photo.why}")
    shown = None
    if report.flow is not None:
        first = {taken: path for taken, name in report.flow.first.items() for path in chosen if path.name == name}
        shown = _flow_picture(folder, first, known.declaring, options.max_side)
    write(report, folder, shown)
    return report


def _kept(store: Store) -> Run:
    """Runs a comparison in a process of its own and keeps what it finds, or finds it again."""

    def run(comparison: CompareNetwork | CompareFlow, source: Artifact) -> Found:
        store.about = comparison.about
        return Found.read(store.run(cast(Stage, comparison), source).artifact.path)

    return run


def _flow_picture(folder: Path, first: Mapping[str, Path], options: Mapping[str, Any], max_side: int) -> FlowPicture:
    """The `first` photos and what the whole flow makes of them, on the engines that `cameo.load` picks here."""
    with cameo.load(folder, consent=True, **options) as loaded:
        found, _ = readable(list(first.values()), max_side)
        pixels = {taken: found[str(path)] for taken, path in first.items()}
        made = loaded.run(pixels)
        engines = {entry.label for entry in loaded.engines.values()}
        notes = " ".join(filter(None, (*loaded.flow.notes, made.note)))
    names = " and ".join(dict.fromkeys(path.name for path in first.values()))
    caption = f"{names} through the whole flow on {', '.join(sorted(engines))}. {notes}"
    return FlowPicture.of(pixels, made.image, caption)


def _original(bundle: Bundle, of: Model, network: str, weights: Path | None) -> Artifact:
    """The file of the authors (or the folder of several) that the bundle's network was built from."""
    source = bundle.networks[network].source
    if weights is None:
        place = whereabouts(bundle.folder, str(source["sha256"]))
        found = _there(place, of, network) if place is not None else None
    else:
        found = weights_in(weights, network, of) if weights.is_dir() else None
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
    return found


def _there(place: Path, of: Model, network: str) -> Artifact | None:
    """The checkpoint at the place where one lay, if something still lies there."""
    if place.is_dir():
        return weights_in(place, network, of)
    return Artifact.of(place) if place.is_file() else None


def _photos(place: Path) -> Sequence[Path]:
    if place.is_dir():
        return photos_in(place)
    if not place.is_file():
        raise PhotoError(f"there is no photo or folder {place}: check --photos")
    return [place]
