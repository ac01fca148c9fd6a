"""The tables of figures: engines down, metrics across."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metrics import FACE, metric_names
from validate.page.words import number, pixels, shown, title, unit
from validate.results import FlowResult, NetworkResult, StageResult, Subject

Subjects = Sequence[tuple[str, Subject]]
"""Labels, and what was measured of those."""


@dataclass(frozen=True)
class Table:
    """Text: the heads of the columns, and rows that begin with what they are about."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def subjects_of(compared: NetworkResult | FlowResult) -> Subjects:
    """The original, and every engine that ran."""
    return [("original", compared.original), *((engine.label, engine.subject) for engine in compared.ran)]


@dataclass(frozen=True)
class StageRow:
    """One stage of the flow, in words, and how far each engine that ran is off there."""

    heading: str
    rows: int
    engines: Sequence[StageResult]


def stage_rows(flow: FlowResult) -> list[StageRow]:
    """The stages in the order of the flow, side by side for all engines; none where none was recorded."""
    recorded = [engine.stages for engine in flow.ran if engine.stages]
    return [StageRow(_stage(beside[0]), beside[0].rows, beside) for beside in zip(*recorded, strict=True)]


def _stage(stage: StageResult) -> str:
    """A stage in words ("fusion-generator ← image", "faces → points")."""
    return f"{stage.network} {'→' if stage.made else '←'} {stage.edge}"


def figures(subjects: Subjects, wanted: Callable[[str], bool]) -> Table:
    """Those of the subjects' metrics that are wanted, fidelity first."""
    found = list(dict.fromkeys(m.metric for _, subject in subjects for m in subject.measurements if wanted(m.metric)))
    columns = sorted(found, key=lambda name: name.partition("/")[0] not in metric_names(FACE))
    measured = [(label, {m.metric: m for m in subject.measurements}) for label, subject in subjects]
    return Table(
        ["", *map(title, columns)],
        [[label, *(shown(of.get(column)) for column in columns)] for label, of in measured],
    )


def fidelity_by_size(network: NetworkResult) -> Table | None:
    """The worst of all photos at every size; None where there is only one."""
    found = [(engine.label, size) for engine in network.ran for size in engine.by_size]
    if len(network.fidelity_sizes) < 2 or not found:
        return None
    metrics = list(found[0][1].worst)
    return Table(
        ["", "size", *map(title, metrics)],
        [
            [label, pixels((size.height, size.width)), *(number(size.worst[m], unit(m)) for m in metrics)]
            for label, size in found
        ],
    )
