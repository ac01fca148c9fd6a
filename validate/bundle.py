"""A bundle against its originals: runs everything, holds the gates against it, returns the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import exporters
from cameo.artifact import Artifact, sha256_of
from cameo.bundle import MANIFEST_NAME, Bundle
from cameo.counting import count_of
from cameo.errors import BundleError, CameoError, CheckpointError, EngineUnavailable, GateError, PhotoError
from metrics import known
from metrics.measurement import Gate, GateResult, hold
from validate import provenance
from validate.comparisons import Found, Run, flow_comparison, network_comparisons
from validate.flow import NAME as FLOW
from validate.network import Tell, ValidationOptions, untold
from validate.readable import readable
from validate.results import FlowResult, NetworkResult, PhotoRecord, Report

__all__ = ["ValidationOptions", "raise_if_failed", "readable", "run_validation"]


def run_validation(
    bundle: Path,
    weights: Mapping[str, Artifact],
    photos: Sequence[Path],
    gates: Sequence[Gate],
    options: ValidationOptions | None = None,
    tell: Tell = untold,
    run: Run | None = None,
) -> Report:
    """Compare every engine in `bundle` that can run here with the original in `weights` (network to checkpoint).

    `tell(what, done, of)` hears how many photos, at how many sizes, each network and engine has behind it. `run` is
    what runs each comparison on its source, or finds again what it found; without it, all are made now.

    Raises:
        PhotoError: no photo, or none that can be read.
        BundleError: a copy for serving, without the records of conversions.
        CheckpointError: a network without weights, or weights of something else.
        EngineUnavailable: not one engine of the bundle can run here.
        EngineError: the original or an engine crashed.
        CameoError: a gate on a metric that does not exist.
    """
    opened = Bundle(bundle)
    _check_request(opened, weights, photos, gates)
    options = options or ValidationOptions()
    run = run or (lambda comparison, source: comparison.compare(source.path, tell))
    pictures, skipped = readable(photos, options.max_side)
    usable = list(map(Path, pictures))
    found = [run(one, weights[one.networks[0]]) for one in network_comparisons(opened, weights, usable, options)]
    networks = [one.network for one in found if one.network is not None]
    if all(engine.subject.why_not_run for network in networks for engine in network.engines):
        reasons = {engine.subject.why_not_run for network in networks for engine in network.engines}
        raise EngineUnavailable(f"nothing can be validated, as no engine of {bundle} runs here: {'; '.join(reasons)}")
    whole = Found()
    if options.flow:
        whole = run(flow_comparison(opened, weights, usable, options), Artifact.of(opened.folder / MANIFEST_NAME))
    flow = whole.flow
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
        skipped_photos=(*skipped, *whole.skipped),
        pictures=tuple(picture for one in (*found, whole) for picture in one.pictures),
        faces=whole.faces,
    )


def raise_if_failed(report: Report) -> None:
    """Do nothing where every gate holds.

    Raises:
        GateError: naming the subject, metric, value and limit of every gate that does not.
    """
    if report.failures:
        failed = count_of(len(report.failures), "gate")
        raise GateError(f"{report.model} failed {failed}: {'; '.join(map(str, report.failures))}")


def _check_request(
    bundle: Bundle, weights: Mapping[str, Artifact], photos: Sequence[Path], gates: Sequence[Gate]
) -> None:
    """Refuse what cannot be validated before anything is started."""
    if not photos:
        raise PhotoError("validation needs at least one photo, got none: name some with --photos")
    records = [graph.record.path for network in bundle.networks.values() for graph in network.converted.values()]
    lacking = [path for path in records if not (bundle.folder / path).is_file()]
    if lacking:
        raise BundleError(
            f"{bundle.folder} has no {lacking[0]}, which validation reads (a copy without networks/ is for serving): "
            "copy that folder too, or validate the bundle where it was built"
        )
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
