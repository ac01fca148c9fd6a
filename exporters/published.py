"""What a family's authors published, and others about it: where files are, and figures to stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from metrics.sizes import Size

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
    """One figure of an article: peak GPU memory and time of the whole model on a photo of `size` (height, width).

    `vram_mib` is None where memory ran out.
    """

    what: str
    size: Size
    vram_mib: float | None
    latency_ms: float


@dataclass(frozen=True)
class Figures:
    """The figures of one article, and the hardware that they were taken on; never measured here.

    They stand beside those of the `networks` that do nearly all of the model's work; beside the whole flow's, if none
    does.
    """

    hardware: str
    figures: tuple[Figure, ...]
    networks: tuple[str, ...] = ()
