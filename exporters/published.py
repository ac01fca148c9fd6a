"""What a family's authors published, and others about it: where files are, and figures to stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass

REVISION = "master"


@dataclass(frozen=True)
class Source:
    """A repository on ModelScope with the files a model needs, and the companions that its flow can use.

    A file is found wherever it lies in the repository, and keeps the name (or relative path) given here.
    """

    repository: str
    required: tuple[str, ...]
    companions: tuple[str, ...] = ()
    revision: str = REVISION

    @property
    def files(self) -> tuple[str, ...]:
        """All files, the required ones first."""
        return self.required + self.companions


@dataclass(frozen=True)
class Figure:
    """One figure of an article: peak GPU memory and time of the whole model at `size` pixels squared."""

    what: str
    size: int
    vram_mib: float
    latency_ms: float


@dataclass(frozen=True)
class Figures:
    """The figures of one article, and the hardware that they were taken on; never measured here."""

    hardware: str
    figures: tuple[Figure, ...]
