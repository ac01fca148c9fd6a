"""The comparisons of a report as stages: what one found is kept under the hash of all that it rests on, found again.

A network's is one, all its engines together, as they are timed in turns; the whole flow's is another. So a validation
that was killed goes on with the comparison that it was killed in, and a bundle of which one network was built anew
compares that network and the flow (docs/decisions/162).
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter

import exporters
from cameo.artifact import Artifact, sha256_of
from cameo.bundle import Bundle, NetworkEntry
from cameo.discovery import module_path
from metrics import FACE, metric_names
from validate import provenance
from validate.flow import FlowComparison
from validate.network import NetworkComparison, Tell, ValidationOptions
from validate.pictures import Comparison, FacePair
from validate.readable import readable
from validate.results import FlowResult, NetworkResult, SkippedPhoto

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What a comparison found: of a network, or of the flow (then with pairs of faces, and photos that it skipped)."""

    network: NetworkResult | None = None
    flow: FlowResult | None = None
    pictures: tuple[Comparison, ...] = ()
    faces: tuple[FacePair, ...] = ()
    skipped: tuple[SkippedPhoto, ...] = ()

    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")

    def write(self, out: Path) -> None:
        """Write it as JSON."""
        out.write_bytes(TypeAdapter(Found).dump_json(self))

    @classmethod
    def read(cls, path: Path) -> Found:
        """What `write` wrote."""
        return TypeAdapter(Found).validate_json(path.read_bytes())


@dataclass(frozen=True)
class _Comparing(ABC):
    """What both comparisons rest on: `digest` is of all that the bundle says of them, `hashes` are the photos'."""

    output: ClassVar[str] = "comparison.json"
    measures: ClassVar[bool] = True

    bundle: Path
    digest: str
    networks: tuple[str, ...]
    engines: tuple[str, ...]
    photos: tuple[Path, ...]
    hashes: tuple[str, ...]
    options: ValidationOptions

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        entries: Sequence[NetworkEntry],
        photos: Sequence[Path],
        options: ValidationOptions,
        **more: Any,
    ) -> Self:
        """The comparison of these networks on these photos, as they are now."""
        said = json.dumps([*map(asdict, entries), asdict(bundle.manifest)["assets"]], sort_keys=True)
        return cls(
            bundle.folder,
            hashlib.sha256(said.encode()).hexdigest(),
            tuple(entry.name for entry in entries),
            tuple(dict.fromkeys(engine.engine for entry in entries for engine in entry.engines)),
            tuple(photos),
            tuple(map(sha256_of, photos)),
            options,
            **more,
        )

    @abstractmethod
    def compare(self, source: Path, tell: Tell) -> Found:
        """What is found on `source`, now."""

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write what is found.

        Raises:
            CameoError: what `compare` raises.
        """
        self.compare(source, _log_progress).write(out)
        return {}

    @property
    def tools(self) -> tuple[str, ...]:
        """The libraries that run originals and engines."""
        of_originals = (library for name in self.networks for library in exporters.family_of(name).libraries)
        return tuple(dict.fromkeys((*provenance.LIBRARIES, *of_originals)))

    @property
    def rests_on(self) -> tuple[str, ...]:
        """What is found by file name: originals and their feeds, engines, metrics, and what the worker runs."""
        families = {exporters.family_of(name) for name in self.networks}
        modules = [family.path(one) for family in families for one in ("original", "examples") if family.has(one)]
        engines = [module_path("cameo.backends", engine) for engine in self.engines]
        measured = [module_path("metrics", name) for name in metric_names(FACE)]
        return (*sorted(modules), *engines, *measured, "validate.worker", "validate.flow_session")


@dataclass(frozen=True)
class CompareNetwork(_Comparing):
    """One network: its engines against the checkpoint that the stage is run on."""

    name: ClassVar[str] = "compare-network"

    weights_sha256: str

    @property
    def about(self) -> str:
        """What is compared."""
        return self.networks[0]

    def compare(self, source: Path, tell: Tell) -> Found:
        """What is found, now; `tell(what, done, of)` hears how far it is.

        Raises:
            CheckpointError: the checkpoint is not this network's.
            EngineError: the original or an engine crashed, or gave outputs of another shape.
        """
        pictures, _ = readable(self.photos, self.options.max_side)
        entry = Bundle(self.bundle).network(*self.networks)
        comparison = NetworkComparison(
            self.bundle, entry, Artifact(source, "", self.weights_sha256), self.options, tell
        )
        with tempfile.TemporaryDirectory(prefix="cameo-validate-") as scratch:
            result = comparison.run(pictures, Path(scratch))
        return Found(network=result, pictures=tuple(comparison.pictures))


@dataclass(frozen=True)
class CompareFlow(_Comparing):
    """The whole flow on every engine against that on the originals; run on the bundle's manifest."""

    name: ClassVar[str] = "compare-flow"

    weights: Mapping[str, Path]
    weights_sha256: Mapping[str, str]

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The flow as well."""
        return (*super().rests_on, module_path("cameo.flows", Bundle(self.bundle).manifest.flow))

    @property
    def about(self) -> str:
        """What is compared."""
        return "the whole flow"

    def compare(self, source: Path, tell: Tell) -> Found:
        """What is found, now; `tell(what, done, of)` hears how far it is.

        Raises:
            CheckpointError: weights that are not their network's.
            EngineError: a process crashed, or a result has another size than the original's.
            PhotoError: the original makes nothing of any of the photos.
        """
        pictures, _ = readable(self.photos, self.options.max_side)
        comparison = FlowComparison(Bundle(self.bundle), self.weights, self.options, tell)
        with tempfile.TemporaryDirectory(prefix="cameo-validate-") as scratch:
            result = comparison.run(pictures, Path(scratch))
        shown = tuple(comparison.pictures), tuple(comparison.faces)
        return Found(None, result, *shown, tuple(comparison.skipped))


Run = Callable[[CompareNetwork | CompareFlow, Artifact], Found]
"""What a comparison finds on its source, measured now or earlier."""


def _log_progress(what: str, done: int, of: int) -> None:
    """Tell the process that runs the stage (`pipeline.child`)."""
    log.info("%s %d of %d", what, done, of, extra={"progress": (what, done, of)})


def network_comparisons(
    bundle: Bundle, weights: Mapping[str, Artifact], photos: Sequence[Path], options: ValidationOptions
) -> list[CompareNetwork]:
    """A comparison for each network of the bundle."""
    return [
        CompareNetwork.of(bundle, [entry], photos, options, weights_sha256=weights[name].sha256)
        for name, entry in bundle.networks.items()
    ]


def flow_comparison(
    bundle: Bundle, weights: Mapping[str, Artifact], photos: Sequence[Path], options: ValidationOptions
) -> CompareFlow:
    """The comparison of the bundle's flow."""
    paths = {name: weights[name].path for name in bundle.networks}
    hashes = {name: weights[name].sha256 for name in bundle.networks}
    return CompareFlow.of(bundle, list(bundle.networks.values()), photos, options, weights=paths, weights_sha256=hashes)
