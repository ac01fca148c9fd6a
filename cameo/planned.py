"""The answer of `cameo plan` (`cameo/plan.py`): its rows, its verdicts, and both as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cameo.bundle import engine_label
from cameo.gpus import Gpu
from cameo.modes import MODES

CONTEXT_MIB = 400
"""What CUDA itself takes on a GPU before any network, rounded up (an assumption: not measured here)."""


@dataclass(frozen=True)
class Wish:
    """What is asked: a GPU by name or its memory, the side of a square photo in pixels, and how many at once."""

    gpu: str = ""
    vram_mib: int = 0
    size: int = 1024
    batch: int = 1


@dataclass(frozen=True)
class PlanRow:
    """One network on one engine: memory in MiB for `batch` pictures of `size` × `size`, the largest batch that fits.

    `own_size` is True where that size is the network's and not the photo's. `profile` is the one that the request runs
    in, or None where none contains it; then `why_not` says what the engine is built for. `largest_batch` is limited by
    the memory where `limited_by_memory`, else by what the engine is built for.
    """

    network: str
    engine: str
    precision: str
    target: str
    size: int
    own_size: bool
    batch: int
    profile: str | None
    weight_mib: float
    activation_mib: float
    estimated: bool
    largest_batch: int
    limited_by_memory: bool
    why_not: str
    mode: str = MODES[0]

    @property
    def fits(self) -> bool:
        """Whether the engine is built for the request, and the memory enough."""
        return not self.why_not


@dataclass(frozen=True)
class FlowPlan:
    """All networks of the flow on one engine: what they need, and why it does not fit.

    `total_mib` and `why_not` are of all loaded together, the others of networks that are loaded in turn.
    """

    engine: str
    precision: str
    mode: str
    total_mib: float
    in_turn_mib: float
    estimated: bool
    why_not: str
    why_not_in_turn: str

    @property
    def fits(self) -> bool:
        """Whether every network is built for the request, and the memory enough for all together."""
        return not self.why_not

    @property
    def fits_in_turn(self) -> bool:
        """Whether every network is built for the request, and the memory enough for the largest alone."""
        return not self.why_not_in_turn


@dataclass(frozen=True)
class Plan:
    """The answer, as text (`str`) and for programs (`facts`)."""

    card: Gpu
    wish: Wish
    rows: Sequence[PlanRow]
    flows: Sequence[FlowPlan]
    elsewhere: Sequence[str]

    @property
    def fits(self) -> bool:
        """Whether there is an engine on which the whole flow fits, all at once or in turn."""
        return any(flow.fits or flow.fits_in_turn for flow in self.flows)

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, made of what JSON is made of."""
        return {
            "gpu": asdict(self.card),
            "context_mib": CONTEXT_MIB,
            "wish": asdict(self.wish),
            "fits": self.fits,
            "flows": [{**asdict(flow), "fits": flow.fits, "fits_in_turn": flow.fits_in_turn} for flow in self.flows],
            "networks": [{**asdict(row), "fits": row.fits} for row in self.rows],
            "elsewhere": list(self.elsewhere),
        }

    def __str__(self) -> str:
        built_for = self.card.capability if self.wish.gpu else f"planned for {self.card.capability}"
        photos = "" if all(row.own_size for row in self.rows) else f", photos of {self.wish.size}×{self.wish.size}"
        lines = [
            f"{self.card.name} ({built_for}, {self.card.vram_mib} MiB){photos}, batch {self.wish.batch}; "
            f"{CONTEXT_MIB} MiB set aside for CUDA itself (assumed)",
            *_table(self.rows),
            *(_flow_line(flow, self.card.vram_mib) for flow in self.flows),
            "each: CUDA + all weights + the largest activations, which the networks share; with --low-memory CUDA + "
            "the largest network, as they are loaded in turn; planned by the builder, not measured on a GPU",
            *self.elsewhere,
        ]
        return "\n".join(lines + ([] if self.fits else ["nothing fits"]))


def _flow_line(flow: FlowPlan, vram_mib: int) -> str:
    about = "~" if flow.estimated else ""
    return (
        f"all networks on {engine_label(flow.engine, flow.precision, flow.mode)}: "
        f"{about}{flow.total_mib:.0f} MiB of {vram_mib} MiB ({flow.why_not or 'fits'}); "
        f"with --low-memory {about}{flow.in_turn_mib:.0f} MiB ({flow.why_not_in_turn or 'fits'})"
    )


def _table(rows: Sequence[PlanRow]) -> list[str]:
    """A line for each row under a line of headings, each column as wide as its widest cell."""
    headings = ("network", "engine", "input", "profile", "weights", "activations", "fits", "largest batch")
    cells = [headings, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = (str.ljust, str.ljust, str.ljust, str.ljust, str.rjust, str.rjust, str.ljust, str.ljust)
    return ["  ".join(a(c, w) for a, c, w in zip(aligned, line, widths, strict=True)).rstrip() for line in cells]


def _cells(row: PlanRow) -> tuple[str, ...]:
    limit = "by memory" if row.limited_by_memory else "as built"
    return (
        row.network,
        engine_label(row.engine, row.precision, row.mode),
        f"{row.batch} of {row.size}×{row.size}{', its own' if row.own_size else ''}",
        row.profile or "none",
        f"{row.weight_mib:.0f} MiB",
        f"{'~' if row.estimated else ''}{row.activation_mib:.0f} MiB",
        "yes" if row.fits else f"no: {row.why_not}",
        f"{row.largest_batch}, {limit}" if row.largest_batch else "-",
    )
