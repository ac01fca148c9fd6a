"""What a flow's networks were fed and gave, and the faces it found: the stages of a run, in the order of the calls.

A stage is one edge of a network, or the points of faces; its rows are the rows of all calls one after another, so that
it does not matter in which batches a flow ran them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cameo.session import Session, Tensor

FACES = "faces"
"""The network, as it were, whose output `points` are the five points of each face of the photos: the flow's finder."""

GIVEN, MADE = "in", "out"

Stage = tuple[str, str, str]
"""Network, `GIVEN` or `MADE`, and the name of the edge."""


class Recorder:
    """Keeps rows by stage while `rows` is not None."""

    def __init__(self) -> None:
        self.rows: dict[Stage, list[Tensor]] | None = None

    def start(self) -> None:
        """Keep what comes."""
        self.rows = {}

    def stop(self) -> dict[Stage, list[Tensor]]:
        """What was kept since `start`."""
        kept, self.rows = self.rows or {}, None
        return kept

    def keep(self, network: str, way: str, edges: Mapping[str, Tensor]) -> None:
        """The batches of one call; what has no rows (a seed) is one."""
        if self.rows is None:
            return
        for edge, batch in edges.items():
            rows = [np.array(row) for row in np.atleast_1d(batch)]
            self.rows.setdefault((network, way, edge), []).extend(rows)

    def watched(self, sessions: Mapping[str, Session]) -> dict[str, Session]:
        """The sessions of a flow's networks, each of which tells what it is fed and gives."""
        return {name: _Watched(name, session, self) for name, session in sessions.items()}


class _Watched(Session):
    def __init__(self, name: str, session: Session, recorder: Recorder) -> None:
        self._name, self._session, self._recorder = name, session, recorder
        self.inputs, self.outputs, self.batches = session.inputs, session.outputs, session.batches

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = self._session.run(feeds)
        self._recorder.keep(self._name, GIVEN, feeds)
        self._recorder.keep(self._name, MADE, made)
        return made

    def close(self) -> None:
        self._session.close()


def points_of(faces: Any) -> Tensor:
    """The five points of each face, float64 `(F, 5, 2)`."""
    return np.array([face.five_points for face in faces], np.float64).reshape(-1, 5, 2)


def to_arrays(stages: Mapping[Stage, list[Tensor]]) -> dict[str, Tensor]:
    """One array for every row, by a name that tells stage and place, for a file."""
    return {"|".join((*stage, str(i))): row for stage, rows in stages.items() for i, row in enumerate(rows)}


def from_arrays(arrays: Mapping[str, Tensor]) -> dict[Stage, list[Tensor]]:
    """The stages of such a file's arrays, in their order; others are left out."""
    stages: dict[Stage, list[Tensor]] = {}
    for name, row in arrays.items():
        if name.count("|") == 3:
            network, way, edge, _ = name.split("|")
            stages.setdefault((network, way, edge), []).append(row)
    return stages
