"""A flow's run on an engine against its run on the originals, stage by stage: where a deviation begins.

How far a stage is off is the root mean square of its worst row's difference, as a share of the largest value that the
original has there (255 for pictures): one number for pictures, points, identities and coefficients alike
(docs/decisions/173).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cameo.session import Tensor
from validate.recording import FACES, MADE, Stage
from validate.results import StageResult

TOLERANCE = 0.01
"""The share from which on a stage counts as off: as much as 2.55 levels, a PSNR of 40 dB, in a picture."""

_PEAK = 255.0


def compare_stages(
    original: Mapping[Stage, Sequence[Tensor]], candidate: Mapping[Stage, Sequence[Tensor]]
) -> tuple[StageResult, ...]:
    """Every stage of the original's run; the first that is off is the one to look at."""
    found: list[StageResult] = []
    for stage, rows in original.items():
        one = _compare(stage, rows, candidate.get(stage, ()))
        if _is_off(one) and not any(before.first_off for before in found):
            one = replace(one, first_off=True)
        found.append(one)
    return tuple(found)


def _is_off(stage: StageResult) -> bool:
    return bool(stage.said) or not stage.error <= TOLERANCE


def _compare(stage: Stage, expected: Sequence[Tensor], got: Sequence[Tensor]) -> StageResult:
    network, way, edge = stage
    rows = len(expected)
    if said := _unlike(stage, expected, got):
        return StageResult(network, way == MADE, edge, rows, math.nan, math.nan, None, said)
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(expected, got, strict=True)]
    picture = all(row.dtype == np.uint8 and row.ndim == 3 for row in expected)
    largest = _PEAK if picture else max((float(np.abs(a).max(initial=0)) for a, _ in pairs), default=0.0)
    # Of NumPy, whose largest is no number where one is none
    off = float(np.max([0.0, *(np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs if a.size)]))
    difference = float(np.max([0.0, *(np.abs(a - b).max(initial=0) for a, b in pairs)]))
    error = off / largest if largest else (math.inf if off else 0.0)
    psnr = (20 * math.log10(_PEAK / off) if off else math.inf) if picture else None
    return StageResult(network, way == MADE, edge, rows, error, difference, psnr)


def _unlike(stage: Stage, expected: Sequence[Tensor], got: Sequence[Tensor]) -> str:
    """What makes the two runs no pair, in words, or ""."""
    if len(expected) != len(got):
        things = "faces" if stage[0] == FACES else "rows"
        return f"{len(expected)} {things} against {len(got)}"
    for a, b in zip(expected, got, strict=True):
        if a.shape != b.shape:
            return f"{'×'.join(map(str, a.shape))} against {'×'.join(map(str, b.shape))}"
    return ""
