"""The parts of the page in their order, and what each of them shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import exporters
import metrics
from cameo.declaring import declarations
from cameo.flows import flow_module
from metrics import identity, known, landmarks, metric_names
from metrics.measurement import GateResult
from metrics.memory import PLANNED_MEMORY
from validate.flow import FACE, NAME
from validate.page.charts import BarChart, flow_charts, network_charts
from validate.page.tables import StageRow, Table, fidelity_by_size, figures, stage_rows, subjects_of
from validate.page.tradeoff import Tradeoff, tradeoffs
from validate.pictures import Comparison, FlowPicture
from validate.results import FlowResult, NetworkResult, Report

_OF_FACES = {*(metric.name for metric in landmarks.METRICS), *(name + FACE for name in metric_names(metrics.FACE))}
_OF_IDENTITY = {metric.name for metric in identity.METRICS}


@dataclass(frozen=True)
class Part:
    """A section of the page: its place in addresses, its heading, the template that draws it, and of what."""

    anchor: str
    heading: str
    template: str
    shows: object = None


@dataclass(frozen=True)
class NetworkView:
    """One network, with what the page makes of its figures."""

    network: NetworkResult
    pictures: Sequence[Comparison]
    figures: Table
    charts: Sequence[BarChart]
    tradeoffs: Sequence[Tradeoff]
    by_size: Table | None


@dataclass(frozen=True)
class FlowView:
    """The whole flow, with what the page makes of its figures: of the photo, of the faces, of speed and memory.

    `meanings` are those of its options, by name.
    """

    flow: FlowResult
    pictures: Sequence[Comparison]
    photo: Table
    faces: Table
    identity: Table
    stages: Sequence[StageRow]
    cost: Table
    charts: Sequence[BarChart]
    meanings: Mapping[str, str]


def parts(report: Report, flow: FlowPicture | None) -> Iterator[Part]:
    """The parts that there is something to say in."""
    yield Part("gates", "Gates", "gates", tightest(report.gates))
    if flow is not None:
        yield Part("photo", "The whole model on a photo", "photo", flow)
    if report.flow is not None:
        yield Part("flow", "The whole flow against the original", "flow", _flow(report, report.flow))
    for network in report.networks:
        yield Part(f"network-{network.name}", network.name, "network", _network(report, network))
    if len(report.engines) > sum(len(network.ran) for network in report.networks):
        yield Part("not-run", "Engines that did not run here", "not_run")
    if any(engine.planned for engine in report.engines):
        yield Part("planned", "GPU memory as planned by the builders", "planned")
    yield Part("method", "How it was measured", "method", _meanings(report))
    yield Part("provenance", "Provenance", "provenance")


def tightest(gates: Sequence[GateResult]) -> list[GateResult]:
    """One verdict for each metric of a subject, of the tightest of its limits; failures first."""
    found: dict[tuple[str, str], GateResult] = {}
    for gate in gates:
        one = gate.measurement
        kept = found.setdefault((one.subject, one.metric), gate)
        if gate.limit > kept.limit if one.higher_is_better else gate.limit < kept.limit:
            found[one.subject, one.metric] = gate
    return sorted(found.values(), key=lambda gate: gate.passed)


def _network(report: Report, network: NetworkResult) -> NetworkView:
    subjects = subjects_of(network)
    return NetworkView(
        network,
        _pictures(report, network.name),
        figures(subjects, lambda name: not name.startswith(PLANNED_MEMORY.name)),  # has a part of its own
        network_charts(network, subjects),
        tuple(tradeoffs(network)),
        fidelity_by_size(network),
    )


def _flow(report: Report, flow: FlowResult) -> FlowView:
    subjects = subjects_of(flow)
    return FlowView(
        flow,
        _pictures(report, NAME),
        figures(subjects[1:], lambda name: name in metric_names()),
        figures(subjects[1:], lambda name: name in _OF_FACES),
        figures(subjects, _is_of_identity),
        stage_rows(flow),
        figures(
            subjects, lambda name: name not in metric_names() and name not in _OF_FACES and not _is_of_identity(name)
        ),
        flow_charts(report.model, flow, subjects),
        _options(report.model),
    )


def _options(model: str) -> dict[str, str]:
    """What the options of a model's flow mean, by name; none where this version has no such model."""
    known = exporters.models().get(model)
    declared = [flow_module(known.flow).Options, flow_module(known.flow).Request] if known else []
    return {one.name: one.help for options in declared for one in declarations(options)}


def _is_of_identity(metric: str) -> bool:
    return metric.partition("/")[0] in _OF_IDENTITY


def _pictures(report: Report, network: str) -> list[Comparison]:
    return [picture for picture in report.pictures if picture.subject.startswith(f"{network}/")]


def _meanings(report: Report) -> dict[str, str]:
    """What every metric in the report means, by its heading."""
    compared = [*report.networks, *([report.flow] if report.flow else ())]
    subjects = [subject for one in compared for subject in (one.original, *(engine.subject for engine in one.engines))]
    named = {m.metric.partition("/")[0] for subject in subjects for m in subject.measurements}
    return {metric.title: metric.meaning for name, metric in known().items() if name in named}
