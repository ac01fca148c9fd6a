"""One network: its original and every engine that can run here, each in a process of its own, on the same photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import exporters
from cameo.artifact import Artifact
from cameo.bundle import EngineEntry, NetworkEntry
from cameo.errors import CameoError
from cameo.session import Tensor
from metrics import memory, timing
from metrics.examples import Feeds
from metrics.measurement import Measurement, find
from metrics.sizes import Size, Sizes
from metrics.timing import Rounds
from validate import fidelity
from validate.contenders import Contender, Starting
from validate.inputs import runnable_sizes
from validate.pictures import Comparison, compare_pictures
from validate.remote import RemoteSession, Spec
from validate.results import EngineResult, NetworkResult, PlannedMemory, SizeFidelity, Subject

_MIB = 2**20
_LONGEST_PICTURE = 640


@dataclass(frozen=True)
class ValidationOptions:
    """Sizes are (height, width). `threads` 0 leaves every engine its own default, as the original has its own.

    Photos with a longer side than `max_side` are shrunk to it first; 0 leaves them as they are.

    `by_network` says them for networks that are too slow for the usual ones, or meant for others. Without `flow`, only
    networks are compared; `declaring` are those that it is opened with. `parts` are those of the checkpoints that
    the networks were made from, by network, where a file has several.
    """

    fidelity_sizes: tuple[Size, ...] = Sizes().fidelity
    latency_size: Size = Sizes().latency
    rounds: Rounds = field(default_factory=Rounds)
    threads: int = 0
    timeout_s: float = 300.0
    max_side: int = 0
    by_network: Mapping[str, Sizes] = field(default_factory=dict)
    flow: bool = True
    declaring: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)

    def sizes_of(self, network: str) -> Sizes:
        """The sizes at which `network` is compared and timed."""
        return self.by_network.get(network, Sizes(self.fidelity_sizes, self.latency_size))


@dataclass
class EngineContender(Contender):
    """One engine of the network, and what was found of it at every size."""

    entry: EngineEntry = field(kw_only=True)
    by_size: dict[Size, list[Measurement]] = field(default_factory=dict)


Tell = Callable[[str, int, int], None]
"""Hears that so many of so many comparisons of an engine are done."""


def untold(what: str, done: int, of: int) -> None:
    """For those who do not listen."""


class NetworkComparison:
    """Measures one network of a bundle; use `run` once."""

    def __init__(
        self, bundle: Path, network: NetworkEntry, weights: Artifact, options: ValidationOptions, tell: Tell = untold
    ) -> None:
        self._tell = tell
        self._bundle = bundle
        self._network = network
        self._weights = weights
        self._options = options
        self._sizes = options.sizes_of(network.name)
        self._contenders = [
            EngineContender(e.engine, e.precision, e.mode, f"{network.name}/{e.subject}", entry=e)
            for e in network.engines
        ]
        self.pictures: list[Comparison] = []

    def run(self, photos: Mapping[str, NDArray[np.uint8]], scratch: Path) -> NetworkResult:
        """Everything measured of this network on `photos` (uint8 `(H, W, 3)` RGB); `pictures` is filled as well.

        Raises:
            CheckpointError: the weights are not this network's.
            EngineError: the original or an engine crashed, or gave outputs of another shape.
        """
        sizes = runnable_sizes(self._network, self._sizes.fidelity)
        latency_size = runnable_sizes(self._network, [self._sizes.latency])[0]
        with ExitStack() as stack:
            name, weights = self._network.name, str(self._weights.path.resolve())
            spec = Spec(f"{name}/original", name, weights=weights, parts=self._options.parts)
            original = Starting(scratch, self._options.timeout_s).start(stack, spec, self._contenders, self._spec)
            taking_part = [contender for contender in self._contenders if contender.session is not None]
            comparisons = len(sizes) * len(photos)
            for number, size in enumerate(sizes):
                examples = self._feeds(list(photos.values()), size)
                for done, (name, feeds) in enumerate(zip(photos, examples, strict=True), number * len(photos)):
                    self._tell(original.spec.subject, done, comparisons)
                    self._compare(original, taking_part, size, name, _save(scratch, feeds))
                    for contender in taking_part:
                        self._tell(contender.subject, done + 1, comparisons)
            self._tell(f"{self._network.name}, timing", 0, 1)
            timed = _save(scratch, next(self._feeds(list(photos.values()), latency_size)))
            runs = [session.timed(timed) for session in (original, *(c.running for c in taking_part))]
            times = timing.interleaved(runs, self._options.rounds)
            self._tell(f"{self._network.name}, timing", 1, 1)
            for contender, found in zip(taking_part, times[1:], strict=True):
                contender.latencies_ms, contender.memory = found, contender.running.memory()
            taken = original.memory()
        name = original.spec.subject
        measured = (*timing.measurements(name, times[0], times[0])[:-1], *memory.measurements(name, taken))
        return NetworkResult(
            self._network.name,
            self._weights.sha256,
            self._network.onnx.sha256,
            dict(self._network.source),
            tuple(sizes),
            latency_size,
            Subject(name, measured, times[0]),
            tuple(self._result(contender, times[0], measured) for contender in self._contenders),
            {
                name: json.loads((self._bundle / c.record.path).read_text())
                for name, c in self._network.converted.items()
            },
        )

    def _feeds(self, photos: Sequence[NDArray[np.uint8]], size: Size) -> Iterator[Feeds]:
        return exporters.examples_of(self._network.name).feeds(self._network.inputs, photos, size)

    def _spec(self, contender: Contender) -> Spec:
        bundle, threads = str(self._bundle.resolve()), self._options.threads
        engine = contender.engine, contender.precision, contender.mode
        return Spec(contender.subject, self._network.name, "", bundle, *engine, threads=threads)

    def _compare(
        self, original: RemoteSession, contenders: list[EngineContender], size: Size, photo: str, feeds: Path
    ) -> None:
        expected = original.run(feeds)
        for contender in contenders:
            outputs = contender.running.run(feeds)
            try:
                found = fidelity.measurements(contender.subject, self._network.outputs, expected, outputs)
            except CameoError as error:
                raise type(error)(f"{contender.subject} at {size[1]}×{size[0]}: {error}") from error
            contender.by_size.setdefault(size, []).extend(found)
            if "result" in expected and size == self._picture_size():
                self._picture(contender, photo, expected, outputs)

    def _picture_size(self) -> Size:
        """The largest size whose pictures a page can show pixel by pixel, else the smallest there is."""
        sizes = sorted(runnable_sizes(self._network, self._sizes.fidelity), key=lambda size: size[0] * size[1])
        return ([size for size in sizes if max(size) <= _LONGEST_PICTURE] or sizes[:1])[-1]

    def _picture(
        self, contender: EngineContender, photo: str, expected: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        """Keep the pictures of one photo for every engine: the first."""
        if contender.subject not in {kept.subject for kept in self.pictures}:
            pair = (expected["result"][0].astype(np.uint8), outputs["result"][0].astype(np.uint8))
            self.pictures.append(compare_pictures(contender.subject, photo, *pair))

    def _result(
        self, contender: EngineContender, original_ms: tuple[float, ...], original: tuple[Measurement, ...]
    ) -> EngineResult:
        entry, subject = contender.entry, contender.subject
        planned = tuple(
            PlannedMemory(p.name, p.max, p.target, p.weight_bytes / _MIB, p.activation_bytes / _MIB)
            for p in entry.profiles
            if p.weight_bytes is not None and p.activation_bytes is not None
        )
        measured = [memory.PLANNED_MEMORY.of(subject, p.total_mib, p.profile) for p in planned]
        if contender.session is not None:
            measured += fidelity.worst(m for runs in contender.by_size.values() for m in runs)
            measured += timing.measurements(subject, contender.latencies_ms, original_ms)
            measured += memory.measurements(subject, contender.memory, find(original, "peak_rss"))
        by_size = tuple(
            SizeFidelity(*size, {m.metric: m.value for m in fidelity.worst(runs)})
            for size, runs in contender.by_size.items()
        )
        told = Subject(subject, tuple(measured), contender.latencies_ms, contender.why_not_run)
        return EngineResult(
            entry.engine, entry.precision, entry.file.sha256, entry.file.bytes, told, by_size, planned, entry.mode
        )


def _save(scratch: Path, feeds: Feeds) -> Path:
    """Feeds as a file."""
    path = scratch / "feeds.npz"
    np.savez(path, **dict[str, Any](feeds))
    return path
