"""What `cameo calibrate` measured, kept beside the bundle: DIR.calibration.json, or where that cannot be written, in
the user's cache folder. Never inside the bundle, which is the same everywhere, as what was measured is not.

A file has records of one bundle (by its manifest's hash) on one device; measuring again replaces a record's engines.
"""

from __future__ import annotations

import json
import os
import platform
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from cameo.artifact import sha256_of
from cameo.bundle import MANIFEST_NAME, Bundle, EngineEntry
from cameo.cuda_driver import devices
from cameo.errors import BundleError, OutputError
from cameo.memory.free import CUDA
from cameo.memory.need import Need, fitted
from cameo.schema import SchemaError, parse, strict_json

_FORMAT: Final = 1


@dataclass(frozen=True)
class Point:
    """`batch` rows of `pixels` took so many bytes beyond the bare process at their peak, and so long."""

    pixels: int
    batch: int
    bytes: int
    microseconds: int


@dataclass(frozen=True)
class Measured:
    """One network on one engine; `base_bytes` is a process that loaded the engine's library, and no network."""

    base_bytes: int
    points: tuple[Point, ...]

    def check(self) -> None:
        """Raises SchemaError: nothing was measured."""
        if not self.points:
            raise SchemaError("points is empty, expected at least one")

    @property
    def need(self) -> Need:
        """The line that no point lies above."""
        return fitted([(point.pixels, point.batch, point.bytes) for point in self.points])


@dataclass(frozen=True)
class Record:
    """What was measured of one bundle on one device, by `key_of`."""

    bundle: str
    device: str
    engines: Mapping[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """The content of a file."""

    records: tuple[Record, ...] = ()

    def record(self, bundle: str, device: str) -> Record:
        """What is known of a bundle on a device; an empty record where nothing is."""
        known = (one for one in self.records if (one.bundle, one.device) == (bundle, device))
        return next(known, Record(bundle, device))

    def with_record(self, new: Record) -> Calibration:
        """The same with `new` in its place."""
        others = [one for one in self.records if (one.bundle, one.device) != (new.bundle, new.device)]
        return Calibration((*others, new))


def key_of(network: str, entry: EngineEntry) -> str:
    """What an engine of a network goes by: "dctnet-head/openvino-bf16"."""
    return f"{network}/{entry.subject}"


def device_name(place: str) -> str:
    """The device that engines at `place` run on: "AMD EPYC ..., 2 cores"."""
    if place == CUDA:
        return next((device.name for device in devices()), CUDA)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {os.cpu_count()} cores"


def known_of(bundle: Bundle, place: str) -> Mapping[str, Measured]:
    """What was measured of `bundle` on the device at `place`, by `key_of`; empty where nothing was.

    Raises:
        BundleError: a file of measurements is damaged.
    """
    hashed, device = identity(bundle), device_name(place)
    found: dict[str, Measured] = {}
    for path in _places(bundle, hashed):
        found = {**read(path).record(hashed, device).engines, **found}
    return found


def identity(bundle: Bundle) -> str:
    """The hash by which a bundle is known here."""
    return sha256_of(bundle.folder / MANIFEST_NAME)


def read(path: Path) -> Calibration:
    """The measurements at `path`; none where there is no file.

    Raises:
        BundleError: it is damaged, or of another format.
    """
    try:
        content = strict_json(path.read_text())
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise SchemaError(f"its format is not {_FORMAT}")
        return parse(Calibration, content)
    except FileNotFoundError:
        return Calibration()
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be used ({error}): delete it, or run `cameo calibrate` again") from None


def keep(bundle: Bundle, place: str, engines: Mapping[str, Measured]) -> Path:
    """Write what was measured of `bundle` on the device at `place` beside what is known; where it went.

    Raises:
        OutputError: neither the folder beside the bundle nor the cache can be written.
    """
    hashed, device = identity(bundle), device_name(place)
    reasons = []
    for path in _places(bundle, hashed):
        try:
            known = read(path)
            record = known.record(hashed, device)
            _write(path, known.with_record(replace(record, engines={**record.engines, **engines})))
        except OSError as error:
            reasons.append(f"{path} ({error.strerror or error})")
        else:
            return path
    raise OutputError(f"the measurements could not be written to {' nor '.join(reasons)}: free some space")


def _places(bundle: Bundle, hashed: str) -> Iterator[Path]:
    folder = bundle.folder.resolve()
    yield folder.with_name(f"{folder.name}.calibration.json")
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home folder
        return
    yield cache / "cameo" / f"{hashed[:16]}.calibration.json"


def _write(path: Path, calibration: Calibration) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_text(json.dumps({"format": _FORMAT, **asdict(calibration)}, indent=1) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
