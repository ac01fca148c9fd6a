"""A small table of GPUs: what engines are built for, and how much memory there is to fit into."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from cameo.errors import RequestError


@dataclass(frozen=True)
class Gpu:
    """A GPU model: its compute capability ("sm_86") and its memory in MiB."""

    name: str
    capability: str
    vram_mib: int


def _family(capability: str, **gib: float) -> dict[str, Gpu]:
    return {name: Gpu(name, capability, round(size * 1024)) for name, size in gib.items()}


# Compute capabilities: NVIDIA, "CUDA GPU Compute Capability". Memory: the vendor's specifications.
GPUS: dict[str, Gpu] = {
    **_family("sm_75", gtx1650=4, gtx1660=6, gtx1660ti=6, rtx2060=6, rtx2060super=8, rtx2070=8, rtx2070super=8),
    **_family("sm_75", rtx2080=8, rtx2080super=8, rtx2080ti=11, titanrtx=24, t4=16),
    **_family("sm_86", rtx3050=8, rtx3060=12, rtx3060ti=8, rtx3070=8, rtx3070ti=8, rtx3080=10, rtx3080ti=12),
    **_family("sm_86", rtx3090=24, rtx3090ti=24, rtx3050laptop=4, rtx3060laptop=6, rtx3070laptop=8, a10=24, rtxa2000=6),
    **_family("sm_89", rtx4060=8, rtx4060ti=8, rtx4070=12, rtx4070super=12, rtx4070ti=12, rtx4070tisuper=16),
    **_family("sm_89", rtx4080=16, rtx4080super=16, rtx4090=24, rtx4050laptop=6, rtx4060laptop=8, l4=24, l40s=48),
    **_family("sm_120", rtx5060=8, rtx5060ti=16, rtx5070=12, rtx5070ti=16, rtx5080=16, rtx5090=32),
    **_family("sm_80", a100=40),
    **_family("sm_90", h100=80, h200=141),
}


def gpu(name: str, otherwise: str) -> Gpu:
    """The GPU called `name`, however it is spelled ("RTX 3060", "rtx3060", "GeForce RTX 3060 12GB").

    `otherwise` is what can be given instead of a name, for the message.

    Raises:
        RequestError: the table has no such GPU.
    """
    plain = re.sub(r"nvidia|geforce|quadro|tesla|\d+ ?gi?b|[^a-z0-9]", "", name.lower())
    if plain in GPUS:
        return GPUS[plain]
    near = difflib.get_close_matches(plain, GPUS, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}" if near else f"known: {', '.join(GPUS)}"
    raise RequestError(f"there is no GPU '{name}' in the table: {hint}; or give {otherwise}")
