"""Will it fit: the memory that engines planned, against the memory of a GPU.

A bundle's TensorRT-RTX engines were built with a log that says how many bytes of weights and activations each
optimization profile takes. All networks of a flow stay loaded; they run one after another, so the flow needs

    context + sum of weights + largest activations

For a size between profiles, activations are those of the profile scaled by the number of pixels: so they grow.
"""

from __future__ import annotations

from dataclasses import dataclass

from cameo.bundle import Bundle, EngineEntry, NetworkEntry, Profile
from cameo.errors import BundleError, EngineError
from cameo.gpus import Gpu, gpu

CONTEXT_MIB = 400
"""What CUDA itself takes on a GPU before any network, rounded up (an assumption: not measured here)."""

_MIB = 2**20


@dataclass(frozen=True)
class PlanRow:
    """One network on one engine: memory in MiB at the size and batch asked for, and the largest batch that fits.

    `profile` is the one that the request runs in, or None where no profile is large enough; `largest_batch` is limited
    by the profiles as well as by memory.
    """

    network: str
    engine: str
    target: str
    profile: str | None
    weight_mib: float
    activation_mib: float
    fits: bool
    largest_batch: int


def plan_rows(bundle: Bundle, target: str, vram_mib: int, size: int, batch: int) -> list[PlanRow]:
    """A row for each network and engine with planned memory, for photos of `size` × `size` pixels.

    Raises:
        BundleError: no engine of the bundle has planned memory, or none for this GPU.
    """
    entries = [(n, e) for n in bundle.networks.values() for e in n.engines if e.profiles]
    if not entries:
        raise BundleError(
            f"{bundle.folder} has no engine with planned memory: build it with the tensorrt-rtx engine "
            "(its other engines run in the computer's own memory)"
        )
    targets = {profile.target for _, entry in entries for profile in entry.profiles}
    if target not in targets:
        built = ", ".join(sorted(targets))
        raise BundleError(f"{bundle.folder} has engines for {built}, not for {target}: build it with --gpu {target}")
    weights = {(n.name, e.engine): _weight_mib(e, target) for n, e in entries}
    return [_row(n, e, target, vram_mib - CONTEXT_MIB - _others(weights, n, e), size, batch) for n, e in entries]


def _others(weights: dict[tuple[str, str], float], network: NetworkEntry, entry: EngineEntry) -> float:
    """Weights of the flow's other networks on the same engine, which stay loaded beside this one."""
    return sum(mib for (name, engine), mib in weights.items() if engine == entry.engine and name != network.name)


def _weight_mib(entry: EngineEntry, target: str) -> float:
    return max((p.weight_bytes or 0) for p in entry.profiles if p.target == target) / _MIB


def _row(network: NetworkEntry, entry: EngineEntry, target: str, free_mib: float, size: int, batch: int) -> PlanRow:
    profiles = sorted((p for p in entry.profiles if p.target == target), key=lambda p: p.activation_bytes or 0)
    size = _own_size(profiles, size)
    weight = _weight_mib(entry, target)
    needed = _activations(profiles, size, batch)
    fitting = [b for b in range(1, max(p.max[0] for p in profiles) + 1) if _fits(profiles, size, b, free_mib - weight)]
    profile, activation = needed if needed is not None else (None, 0.0)
    fits = needed is not None and _fits(profiles, size, batch, free_mib - weight)
    return PlanRow(network.name, entry.engine, target, profile, weight, activation, fits, max(fitting, default=0))


def _own_size(profiles: list[Profile], size: int) -> int:
    """The size asked for, or the network's own where its profiles allow only one."""
    fixed = {p.min[1] for p in profiles} | {p.max[1] for p in profiles}
    return fixed.pop() if len(fixed) == 1 else size


def _activations(profiles: list[Profile], size: int, batch: int) -> tuple[str, float] | None:
    """The smallest profile that takes the request, and its activations in MiB scaled to it."""
    for profile in profiles:
        if profile.min[1] <= size <= min(profile.max[1:3]) and profile.min[0] <= batch <= profile.max[0]:
            share = batch * size * size / (profile.max[0] * profile.max[1] * profile.max[2])
            return profile.name, (profile.activation_bytes or 0) / _MIB * share
    return None


def _fits(profiles: list[Profile], size: int, batch: int, free_mib: float) -> bool:
    needed = _activations(profiles, size, batch)
    return needed is not None and needed[1] <= free_mib


def plan_text(bundle: Bundle, gpu_name: str, vram_mib: int, size: int, batch: int) -> str:
    """The answer as text: a line for each network, and one for the whole flow.

    Raises:
        EngineError: the GPU is not in the table.
        BundleError: the bundle has no engine for it.
    """
    if size < 1 or batch < 1:
        raise EngineError(f"--size and --batch are {size} and {batch}, expected whole numbers of at least 1")
    card = gpu(gpu_name) if gpu_name else Gpu("a GPU", _any_target(bundle), vram_mib)
    rows = plan_rows(bundle, card.capability, card.vram_mib, size, batch)
    lines = [
        f"{card.name} ({card.capability}, {card.vram_mib} MiB), photos of {size}×{size}, batch {batch}; "
        f"{CONTEXT_MIB} MiB set aside for CUDA itself (assumed)",
        f"{'network':20}{'engine':14}{'profile':20}{'weights':>10}{'activations':>13}   fits  largest batch",
    ]
    for row in rows:
        verdict = "yes" if row.fits else "no" if row.profile else "too large for its profiles"
        lines.append(
            f"{row.network:20}{row.engine:14}{row.profile or '-':20}{row.weight_mib:6.0f} MiB{row.activation_mib:9.0f} MiB"
            f"   {verdict:5} {row.largest_batch:>6}"
        )
    total = CONTEXT_MIB + sum(row.weight_mib for row in rows) + max(row.activation_mib for row in rows)
    if all(row.profile for row in rows):
        lines.append(
            f"the whole flow: {total:.0f} MiB of {card.vram_mib} MiB, as planned by the builder; not run on a GPU here"
        )
    unplanned = [n.name for n in bundle.networks.values() if n.name not in {row.network for row in rows}]
    if unplanned:
        lines.append(f"no planned memory: {', '.join(unplanned)} (run on the CPU)")
    return "\n".join(lines)


def _any_target(bundle: Bundle) -> str:
    """A target that the bundle was built for: planned memory hardly depends on it."""
    targets = [p.target for n in bundle.networks.values() for e in n.engines for p in e.profiles]
    return targets[0] if targets else ""
