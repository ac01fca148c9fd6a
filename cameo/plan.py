"""Will it fit: the memory that engines planned, against the memory of a GPU.

TensorRT engines are built with a log that says how many bytes of weights and activations each optimization profile
takes. All networks of a flow stay loaded, and take turns with one buffer of activations (docs/decisions/023), so the
flow needs

    context + sum of weights + largest activations

or, where networks are loaded in turn (`--low-memory`, docs/decisions/177),

    context + largest (weights + activations of one network)

for each engine and precision; a network that is built in fewer precisions joins the others in the one it has.

At a profile's largest shape, activations are what its builder planned. At any other shape they are an estimate, marked
"~": the plan of the smallest profile that contains the shape (of the largest profile, where none does) times the share
of pixels, as activations of a convolutional network grow with N*H*W.

A network that is built for one size, as for the crop of a face, is planned at that size, whatever the photo's, and at
no larger batch than it is built for, as a flow hands it no more at once. An engine fits where each of its networks
does: in memory, and in a profile that it was built with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cameo.backends import runs
from cameo.bundle import Bundle, EngineEntry, NetworkEntry, Profile
from cameo.errors import BundleError, RequestError
from cameo.gpus import Gpu, gpu
from cameo.planned import CONTEXT_MIB, FlowPlan, Plan, PlanRow, Wish

_MIB = 2**20


def plan(bundle: Bundle, wish: Wish) -> Plan:
    """What the engines of a bundle need, against the memory of a GPU.

    Raises:
        RequestError: the GPU is not in the table, or a number is none.
        BundleError: the bundle has no engine for the GPU.
    """
    if wish.size < 1 or wish.batch < 1:
        raise RequestError(f"--size and --batch are {wish.size} and {wish.batch}, expected whole numbers of at least 1")
    unnamed = Gpu("a GPU", _most_demanding_target(bundle), wish.vram_mib)
    card = gpu(wish.gpu, "its memory, --vram MIB") if wish.gpu else unnamed
    rows = plan_rows(bundle, card.capability, card.vram_mib, wish.size, wish.batch)
    return Plan(card, wish, rows, list(_flows(rows, card.vram_mib)), _unplanned_lines(bundle, rows))


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
    size, most = _own_size(profiles), max(p.max[0] for p in profiles)
    wanted = _Request(size or request.size, min(request.batch, most) if size else request.batch)
    profile, activation = _activations(profiles, wanted)
    batches = [_Request(wanted.size, number + 1) for number in range(most)]
    built = [b for b in batches if _container(profiles, b)]
    fitting = [b.batch for b in built if _activations(profiles, b)[1] <= free_mib]
    contained = profile.takes(wanted.shape)
    return PlanRow(
        network.name,
        entry.engine,
        entry.precision,
        target,
        wanted.size,
        size is not None,
        wanted.batch,
        profile.name if contained else None,
        _weight_mib(entry, target),
        activation,
        estimated=not contained or wanted.pixels != _largest_pixels(profile),
        largest_batch=max(fitting, default=0),
        limited_by_memory=len(fitting) < len(built),
        why_not=_built_for(profiles, len(built)) if not contained else "memory" if activation > free_mib else "",
        mode=entry.mode,
    )


def _own_size(profiles: Sequence[Profile]) -> int | None:
    """The network's own size, where its profiles allow only one (crops of a face)."""
    sides = {side for p in profiles for side in (*p.min[1:3], *p.max[1:3])}
    return sides.pop() if len(sides) == 1 else None


def _built_for(profiles: Sequence[Profile], most: int) -> str:
    """What an engine is built for that does not take a request, though it takes `most` pictures of that size."""
    if most:
        return f"built for {most} at once"
    least, largest = min(min(p.min[1:3]) for p in profiles), max(max(p.max[1:3]) for p in profiles)
    return f"built for {least}×{least} to {largest}×{largest}"


def _container(profiles: Sequence[Profile], request: _Request) -> Profile | None:
    return next((profile for profile in profiles if profile.takes(request.shape)), None)


def _activations(profiles: Sequence[Profile], request: _Request) -> tuple[Profile, float]:
    """The profile that the figure comes from, and MiB of activations at the request's shape."""
    profile = _container(profiles, request) or profiles[-1]
    share = request.pixels / _largest_pixels(profile)
    return profile, (profile.activation_bytes or 0) / _MIB * share


def _largest_pixels(profile: Profile) -> int:
    return profile.max[0] * profile.max[1] * profile.max[2]


def _flows(rows: Sequence[PlanRow], vram_mib: int) -> Iterator[FlowPlan]:
    """Every engine, with the networks that are not built in its precision in the one that they are built in."""
    for engine in dict.fromkeys((row.engine, row.precision, row.mode) for row in rows):
        of_network = {row.network: row for row in reversed(rows) if row.engine == engine[0]}
        of_network |= {row.network: row for row in rows if (row.engine, row.precision, row.mode) == engine}
        own = list(of_network.values())
        total = CONTEXT_MIB + sum(row.weight_mib for row in own) + max(row.activation_mib for row in own)
        in_turn = CONTEXT_MIB + max(row.weight_mib + row.activation_mib for row in own)
        unbuilt = [f"{row.network} is {row.why_not}" for row in own if row.profile is None]
        resident, turns = ("; ".join([*["does not fit"] * (mib > vram_mib), *unbuilt]) for mib in (total, in_turn))
        yield FlowPlan(*engine, total, in_turn, any(row.estimated for row in own), resident, turns)


def _unplanned_lines(bundle: Bundle, rows: Sequence[PlanRow]) -> list[str]:
    entries = [entry for network in bundle.networks.values() for entry in network.engines]
    ways = [(entry.engine, runs(entry.engine, entry.precision)) for entry in entries if not entry.profiles]
    in_ram = sorted({engine for engine, way in ways if way and "cpu" in way.devices})
    on_cpu = [n.name for n in bundle.networks.values() if n.name not in {row.network for row in rows}]
    lines = [f"{', '.join(in_ram)}: in the computer's own memory, n/a here"] if in_ram else []
    return [*lines, f"on the CPU only: {', '.join(on_cpu)}"] if on_cpu else lines


def _most_demanding_target(bundle: Bundle) -> str:
    """The target for which the builder planned most: an answer for a GPU of unknown kind."""
    profiles = [p for n in bundle.networks.values() for e in n.engines for p in e.profiles]
    return max(profiles, key=lambda p: p.activation_bytes or 0).target if profiles else ""
