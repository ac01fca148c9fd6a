"""Measures the memory of a bundle's engines on this device: `cameo calibrate DIR`.

Each engine of each network runs in a child process of its own, at ever larger pictures and batches. The peak of the
child beyond what it held with the engine's library, and no network, is the network's; on a GPU it is what the driver
says the process's allocator keeps. It stops at what takes seconds, or a quarter of what is free: the rest lies on the
line (`cameo.memory.need`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from cameo.backends import SessionOptions, backend, backend_names
from cameo.bundle import Bundle, EngineEntry, NetworkEntry
from cameo.errors import CameoError, EngineError, EngineUnavailable
from cameo.memory.calibration import Measured, Point, keep, key_of
from cameo.memory.free import CPU, memory_of, peak_resident_bytes, resident_bytes
from cameo.runtime import place_of
from cameo.session import Session, Tensor
from cameo.tensors import TensorSpec

SIDES: Final = (64, 128, 256, 384, 512, 768)  # pixels, of pictures of networks that take any size
BATCHES: Final = (1, 2, 4)
SEVERAL: Final = 256  # the side of pictures that are measured in batches
_LONGEST_S: Final = 2.0
_SHARE: Final = 0.25

Say = Callable[[str], None]


def calibrate(bundle: Bundle, say: Say) -> Path:
    """Measure every engine of a bundle that can run here and whose builder planned no memory; the file of results.

    Raises:
        EngineUnavailable: none can.
        OutputError: the results can be written nowhere.
    """
    found: dict[str, dict[str, Measured]] = {}
    for network in bundle.networks.values():
        for entry in _to_measure(network):
            measured = in_child(bundle, network, entry)
            say(f"{network.name} on {entry.label}: {measured.need.describe()}")
            found.setdefault(place_of(entry, ""), {})[key_of(network.name, entry)] = measured
    if not found:
        raise EngineUnavailable(
            f"{bundle.folder} has no engine to measure here: those that can run have memory that was planned when they "
            "were built (`cameo plan`), or none can (`cameo doctor`)"
        )
    return [keep(bundle, place, engines) for place, engines in found.items()][-1]


def _to_measure(network: NetworkEntry) -> Iterator[EngineEntry]:
    for entry in network.engines:
        known = entry.engine in backend_names()
        if known and not entry.profiles and backend(entry.engine).why_unavailable(entry.precision) is None:
            yield entry


def in_child(bundle: Bundle, network: NetworkEntry, entry: EngineEntry) -> Measured:
    """What one engine of one network takes, measured in a child process.

    Raises:
        EngineError: the child failed.
    """
    names = (network.name, entry.engine, entry.precision, entry.mode)
    command = [sys.executable, "-m", __name__, str(bundle.folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineError(
            f"{network.name} could not be measured on {entry.label}: {last}; try again with less beside it"
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return Measured(told["base"], tuple(Point(*point) for point in told["points"]))


def measure(open_session: Callable[[], Session], network: NetworkEntry, place: str) -> dict[str, Any]:
    """In the child: `base` bytes of the process, and `points` (pixels, batch, bytes beyond, microseconds)."""
    base = _held(place)
    points = []
    with open_session() as session:
        for sizes, batch in _runs(network.inputs, session.batches):
            feeds = {spec.name: _example(spec, sizes, batch) for spec in network.inputs}
            started = time.perf_counter()
            session.run(feeds)
            session.run(feeds)  # engines that compile for a shape hold more, or less, from the second run on
            took = (time.perf_counter() - started) / 2
            points.append((_pixels(feeds), batch, max(_held(place) - base, 0), int(took * 1e6)))
            memory = memory_of(place)
            if took > _LONGEST_S or (memory and points[-1][2] > _SHARE * (memory.free + points[-1][2])):
                break
    return {"base": base, "points": points}


def _runs(inputs: tuple[TensorSpec, ...], batches: Any) -> Iterator[tuple[int, int]]:
    """(side, batch) from the smallest on; the side matters where the network takes any."""
    most = batches[-1] if batches else max(BATCHES)
    any_size = any(isinstance(side, str) for spec in inputs for side in spec.shape[1:3])
    if not any_size:
        yield from ((0, batch) for batch in BATCHES if batch <= most)
        return
    runs = [(side, 1) for side in SIDES] + [(SEVERAL, batch) for batch in BATCHES[1:] if batch <= most]
    yield from sorted(runs, key=lambda run: run[0] ** 2 * run[1])  # peaks only grow


def _example(spec: TensorSpec, side: int, batch: int) -> Tensor:
    """Noise for one input, its free axes of so many pixels."""
    shape = (batch, *(axis if isinstance(axis, int) else side for axis in spec.shape[1:]))
    noise = np.random.default_rng(0).integers(0, 256, shape)
    return noise.astype(spec.dtype)


def _pixels(feeds: dict[str, Tensor]) -> int:
    largest = max(feeds.values(), key=lambda feed: feed.size)
    return int(np.prod(largest.shape[1:3]))


def _held(place: str) -> int:
    """The most that this process has held."""
    if place == CPU:
        return peak_resident_bytes() or resident_bytes()
    memory = memory_of(place)
    return memory.own if memory else 0


def main(arguments: list[str]) -> int:
    """The child: a bundle's folder and the names of a network, an engine, a precision and a mode; prints JSON."""
    folder, network_name, *wanted = arguments
    bundle = Bundle(folder)
    network = bundle.network(network_name)
    entry = next(e for e in network.engines if [e.engine, e.precision, e.mode] == wanted)
    path = bundle.verified(entry.file)
    kind = backend(entry.engine)
    kind.why_unavailable(entry.precision)  # where it asks the library itself, what that loads is no network's
    try:
        __import__(entry.engine.replace("-", "_"))
        told = measure(lambda: kind.open_session(path, SessionOptions(entry.precision)), network, place_of(entry, ""))
    except CameoError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
