"""What others published about the originals, on other hardware: bars to stand beside ours, never measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from validate.inputs import Size


@dataclass(frozen=True)
class Published:
    """One figure of a deployment article: peak GPU memory and time of the whole model at `size` pixels squared."""

    what: str
    size: int
    vram_mib: float
    latency_ms: float


# A deployment article on DCT-Net: RTX 4090, TensorFlow 1.15, 1024×1024.
DCTNET_HARDWARE = "RTX 4090, TensorFlow 1.15"
_DCTNET = (
    Published("TensorFlow, allow_growth off", 1024, 11200, 890),
    Published("TensorFlow, allow_growth on", 1024, 5800, 890),
    Published("FP16", 1024, 3500, 650),
    Published("30 % of channels pruned", 1024, 3000, 480),
)
_BY_FAMILY: Mapping[str, tuple[str, tuple[Published, ...]]] = {"dctnet": (DCTNET_HARDWARE, _DCTNET)}


def published(network: str, largest: Size) -> tuple[str, tuple[Published, ...]]:
    """The hardware and the figures published for the family of `network`, as far as it was run that large here."""
    hardware, figures = _BY_FAMILY.get(network.partition("-")[0], ("", ()))
    return hardware, tuple(figure for figure in figures if figure.size <= min(largest))
