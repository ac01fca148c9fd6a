"""A bundle against its originals: runs everything, holds the gates against it, returns the report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import exporters
from cameo.artifact import sha256_of
from cameo.bundle import Bundle
from cameo.errors import CameoError, CheckpointError, EngineUnavailable, GateError, PhotoError
from cameo.images import read_photo
from metrics import known
from metrics.measurement import Gate, GateResult, hold
from validate import provenance
from validate.flow import NAME as FLOW
from validate.flow import FlowComparison
from validate.network import NetworkComparison, ValidationOptions
from validate.pictures import Comparison
from validate.results import FlowResult, NetworkResult, PhotoRecord, Report, SkippedPhoto

__all__ = ["ValidationOptions", "raise_if_failed", "readable", "run_validation"]


def run_validation(
    bundle: Path,
    weights: Mapping[str, Path],
    photos: Sequence[Path],
    gates: Sequence[Gate],
    options: ValidationOptions | None = None,
) -> Report:
    """Compare every engine in `bundle` that can run here with the original in `weights` (network to checkpoint).

    Raises:
        PhotoError: no photo, or none that can be read.
        CheckpointError: a network without weights, or weights of something else.
        EngineUnavailable: not one engine of the bundle can run here.
        EngineError: the original or an engine crashed.
        CameoError: a gate on a metric that does not exist.
    """
    opened = Bundle(bundle)
    _check_request(opened, weights, photos, gates)
    options = options or ValidationOptions()
    pictures, skipped = readable(photos)
    networks: list[NetworkResult] = []
    shown: list[Comparison] = []
    for name, entry in opened.networks.items():
        comparison = NetworkComparison(bundle, entry, weights[name], options)
        with tempfile.TemporaryDirectory(prefix="cameo-validate-") as scratch:
            networks.append(comparison.run(pictures, Path(scratch)))
        shown += comparison.pictures
    if all(engine.subject.why_not_run for network in networks for engine in network.engines):
        reasons = {engine.subject.why_not_run for network in networks for engine in network.engines}
        raise EngineUnavailable(f"nothing can be validated, as no engine of {bundle} runs here: {'; '.join(reasons)}")
    whole = FlowComparison(opened, weights, options)
    flow = None
    if options.flow:
        with tempfile.TemporaryDirectory(prefix="cameo-validate-") as scratch:
            flow = whole.run(pictures, Path(scratch))
    results = [(gate, _hold(gate, networks, flow)) for gate in gates]
    held = tuple(dict.fromkeys(one for _, found in results for one in found))
    return Report(
        model=opened.manifest.model,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        passed=all(result.passed for result in held),
        gates=held,
        unchecked_gates=tuple(gate for gate, found in results if not found),
        networks=tuple(networks),
        photos=tuple(
            PhotoRecord(Path(path).name, sha256_of(Path(path)), *photo.shape[:2]) for path, photo in pictures.items()
        ),
        device=provenance.device(),
        versions=provenance.versions(library for name in weights for library in exporters.family_of(name).libraries),
        bundle=dict(opened.manifest.provenance),
        flow=flow,
        skipped_photos=skipped,
        pictures=(*shown, *whole.pictures),
        faces=tuple(whole.faces),
    )


def raise_if_failed(report: Report) -> None:
    """Do nothing where every gate holds.

    Raises:
        GateError: naming the subject, metric, value and limit of every gate that does not.
    """
    if report.failures:
        raise GateError(f"{report.model} failed {len(report.failures)} gate(s): {'; '.join(map(str, report.failures))}")


def readable(photos: Sequence[Path]) -> tuple[dict[str, NDArray[np.uint8]], tuple[SkippedPhoto, ...]]:
    """The photos uint8 `(H, W, 3)` RGB by path, and those that cannot be read.

    Raises:
        PhotoError: not one of them can be read.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    skipped: list[SkippedPhoto] = []
    for path in photos:
        try:
            found[str(path)] = read_photo(path)
        except PhotoError as error:
            skipped.append(SkippedPhoto(path.name, str(error)))
    if not found:
        raise PhotoError(f"none of {len(photos)} photo(s) can be read: {'; '.join(one.why for one in skipped[:3])}")
    return found, tuple(skipped)


def _check_request(bundle: Bundle, weights: Mapping[str, Path], photos: Sequence[Path], gates: Sequence[Gate]) -> None:
    """Refuse what cannot be validated before anything is started."""
    if not photos:
        raise PhotoError("validation needs at least one photo, got none: name some with --photos")
    missing = [name for name in bundle.networks if name not in weights]
    if missing:
        raise CheckpointError(f"no original to compare {', '.join(missing)} with: expected its weights among --weights")
    for gate in gates:
        if gate.metric.partition("/")[0] not in known():
            raise CameoError(f"a gate names the metric '{gate.metric}', which is none of {', '.join(known())}")


def _hold(gate: Gate, networks: Sequence[NetworkResult], flow: FlowResult | None) -> list[GateResult]:
    """`gate` on every engine that it covers."""
    measured = [(n.name, e.engine, e.precision, e.mode, e.subject) for n in networks for e in n.engines]
    measured += [(FLOW, e.engine, e.precision, e.mode, e.subject) for e in (flow.engines if flow else ())]
    return [
        result for *engine, subject in measured if gate.covers(*engine) for result in hold(gate, subject.measurements)
    ]
