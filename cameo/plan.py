"""Will it fit: the memory that engines planned, against the memory of a GPU.

TensorRT engines are built with a log that says how many bytes of weights and activations each optimization profile
takes. All networks of a flow stay loaded, and take turns with one buffer of activations (docs/decisions/023), so the
flow needs

    context + sum of weights + largest activations

for each engine and precision; a network that is built in fewer precisions joins the others in the one it has.

At a profile's largest shape, activations are what its builder planned. At any other shape they are an estimate, marked
"~": the plan of the smallest profile that contains the shape (of the largest profile, where none does) times the share
of pixels, as activations of a convolutional network grow with N*H*W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cameo.bundle import Bundle, EngineEntry, NetworkEntry, Profile, engine_label
from cameo.errors import BundleError, RequestError
from cameo.gpus import Gpu, gpu
from cameo.modes import MODES

CONTEXT_MIB = 400
"""What CUDA itself takes on a GPU before any network, rounded up (an assumption: not measured here)."""

_MIB = 2**20


@dataclass(frozen=True)
class PlanRow:
    """One network on one engine: memory in MiB for the request, and the largest batch of that size that fits.

    `profile` is the one that the request runs in, or None where none contains it: then the engine must be built with a
    larger range first. `largest_batch` is limited by the profiles as well as by memory.
    """

    network: str
    engine: str
    precision: str
    target: str
    profile: str | None
    weight_mib: float
    activation_mib: float
    estimated: bool
    fits: bool
    largest_batch: int
    mode: str = MODES[0]


@dataclass(frozen=True)
class _Request:
    size: int
    batch: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.batch, self.size, self.size

    @property
    def pixels(self) -> int:
        return self.batch * self.size * self.size


def plan_rows(bundle: Bundle, target: str, vram_mib: int, size: int, batch: int) -> list[PlanRow]:
    """A row for each network and engine with planned memory, for `batch` photos of `size` × `size` pixels.

    Raises:
        BundleError: no engine of the bundle has planned memory, or none for this GPU.
    """
    entries = [(n, e) for n in bundle.networks.values() for e in n.engines if e.profiles]
    if not entries:
        raise BundleError(
            f"{bundle.folder} has no engine with planned memory: build it with the tensorrt-rtx engine "
            "(its other engines run in the computer's own memory)"
        )
    fitting = [(n, e) for n, e in entries if _planned(e, target)]
    if not fitting:
        built = ", ".join(sorted({profile.target for _, entry in entries for profile in entry.profiles}))
        raise BundleError(f"{bundle.folder} has engines for {built}, not for {target}: build it with --gpu {target}")
    request = _Request(size, batch)
    return [_row(n, e, target, vram_mib - CONTEXT_MIB - _weights(fitting, e, target), request) for n, e in fitting]


def _planned(entry: EngineEntry, target: str) -> list[Profile]:
    """The entry's profiles for `target` whose memory is known, smallest first."""
    known = [p for p in entry.profiles if p.target == target and p.activation_bytes is not None]
    return sorted(known, key=lambda p: p.activation_bytes or 0)


def _weights(entries: Sequence[tuple[NetworkEntry, EngineEntry]], chosen: EngineEntry, target: str) -> float:
    """MiB of weights of all networks on the chosen entry's engine in its precision: they stay loaded together."""
    together: dict[str, EngineEntry] = {}
    for network, entry in entries:
        meant = (entry.precision, entry.mode) == (chosen.precision, chosen.mode)
        if entry.engine == chosen.engine and (meant or network.name not in together):
            together[network.name] = entry
    return sum(_weight_mib(entry, target) for entry in together.values())


def _weight_mib(entry: EngineEntry, target: str) -> float:
    return max((p.weight_bytes or 0) for p in _planned(entry, target)) / _MIB


def _row(network: NetworkEntry, entry: EngineEntry, target: str, free_mib: float, request: _Request) -> PlanRow:
    profiles = _planned(entry, target)
    size = _own_size(profiles, request.size)
    wanted = _Request(size, request.batch)
    profile, activation = _activations(profiles, wanted)
    batches = (_Request(size, number + 1) for number in range(max(p.max[0] for p in profiles)))
    fitting = [b.batch for b in batches if _container(profiles, b) and _activations(profiles, b)[1] <= free_mib]
    return PlanRow(
        network.name,
        entry.engine,
        entry.precision,
        target,
        profile.name if profile.takes(wanted.shape) else None,
        _weight_mib(entry, target),
        activation,
        estimated=not profile.takes(wanted.shape) or wanted.pixels != _largest_pixels(profile),
        fits=activation <= free_mib,
        largest_batch=max(fitting, default=0),
        mode=entry.mode,
    )


def _own_size(profiles: Sequence[Profile], size: int) -> int:
    """The size asked for, or the network's own where its profiles allow only one (crops of a face)."""
    sides = {side for p in profiles for side in (*p.min[1:3], *p.max[1:3])}
    return sides.pop() if len(sides) == 1 else size


def _container(profiles: Sequence[Profile], request: _Request) -> Profile | None:
    return next((profile for profile in profiles if profile.takes(request.shape)), None)


def _activations(profiles: Sequence[Profile], request: _Request) -> tuple[Profile, float]:
    """The profile that the figure comes from, and MiB of activations at the request's shape."""
    profile = _container(profiles, request) or profiles[-1]
    share = request.pixels / _largest_pixels(profile)
    return profile, (profile.activation_bytes or 0) / _MIB * share


def _largest_pixels(profile: Profile) -> int:
    return profile.max[0] * profile.max[1] * profile.max[2]


def plan_text(bundle: Bundle, gpu_name: str, vram_mib: int, size: int, batch: int) -> str:
    """The answer as text: a line for each network, and one for the whole flow.

    Raises:
        RequestError: the GPU is not in the table.
        BundleError: the bundle has no engine for it.
    """
    if size < 1 or batch < 1:
        raise RequestError(f"--size and --batch are {size} and {batch}, expected whole numbers of at least 1")
    card = gpu(gpu_name) if gpu_name else Gpu("a GPU", _most_demanding_target(bundle), vram_mib)
    rows = plan_rows(bundle, card.capability, card.vram_mib, size, batch)
    built_for = card.capability if gpu_name else f"planned for {card.capability}"
    return "\n".join(
        [
            f"{card.name} ({built_for}, {card.vram_mib} MiB), photos of {size}×{size}, batch {batch}; "
            f"{CONTEXT_MIB} MiB set aside for CUDA itself (assumed)",
            *_table(rows),
            *_flow_lines(rows, card.vram_mib),
            *_unplanned_lines(bundle, rows),
        ]
    )


def _table(rows: Sequence[PlanRow]) -> list[str]:
    """A line for each row under a line of headings, each column as wide as its widest cell."""
    headings = ("network", "engine", "profile", "weights", "activations", "fits", "largest batch")
    cells = [headings, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = (str.ljust, str.ljust, str.ljust, str.rjust, str.rjust, str.ljust, str.ljust)
    return ["  ".join(a(c, w) for a, c, w in zip(aligned, line, widths, strict=True)).rstrip() for line in cells]


def _cells(row: PlanRow) -> tuple[str, ...]:
    return (
        row.network,
        engine_label(row.engine, row.precision, row.mode),
        row.profile or "none this large",
        f"{row.weight_mib:.0f} MiB",
        f"{'~' if row.estimated else ''}{row.activation_mib:.0f} MiB",
        "yes" if row.fits and row.profile else "no",
        str(row.largest_batch or "-"),
    )


def _flow_lines(rows: Sequence[PlanRow], vram_mib: int) -> list[str]:
    lines = []
    for engine in dict.fromkeys((row.engine, row.precision, row.mode) for row in rows):
        of_network = {row.network: row for row in reversed(rows) if row.engine == engine[0]}
        of_network |= {row.network: row for row in rows if (row.engine, row.precision, row.mode) == engine}
        own = list(of_network.values())
        total = CONTEXT_MIB + sum(row.weight_mib for row in own) + max(row.activation_mib for row in own)
        verdict = "fits" if total <= vram_mib else "does not fit"
        lines.append(
            f"all networks on {engine_label(*engine)}: {'~' if any(r.estimated for r in own) else ''}{total:.0f} MiB "
            f"of {vram_mib} MiB ({verdict}): CUDA + all weights + the largest activations, "
            "which the networks share; planned by the builder, not measured on a GPU"
        )
    return lines


def _unplanned_lines(bundle: Bundle, rows: Sequence[PlanRow]) -> list[str]:
    entries = [entry for network in bundle.networks.values() for entry in network.engines]
    in_ram = sorted({entry.engine for entry in entries if not entry.profiles and entry.precision != "fp16"})
    on_cpu = [n.name for n in bundle.networks.values() if n.name not in {row.network for row in rows}]
    lines = [f"{', '.join(in_ram)}: in the computer's own memory, n/a here"] if in_ram else []
    return [*lines, f"on the CPU only: {', '.join(on_cpu)}"] if on_cpu else lines


def _most_demanding_target(bundle: Bundle) -> str:
    """The target for which the builder planned most: an answer for a GPU of unknown kind."""
    profiles = [p for n in bundle.networks.values() for e in n.engines for p in e.profiles]
    return max(profiles, key=lambda p: p.activation_bytes or 0).target if profiles else ""
