"""A bundle: the folder that a build leaves behind and the runtime serves from.

    DIR/bundle.json            this module's `Manifest`, with its own sha256
    DIR/networks/NAME.onnx     one ONNX graph per network, the source of truth
    DIR/networks/NAME.fp16.*   the same converted to another precision, and the record of how (which nodes stayed FP32)
    DIR/engines/NAME.ENGINE*   what the engine builders made of it
    DIR/assets/...             what the flow needs besides networks (DCT-Net's alpha mask)
    DIR/report.json, .html     written by `validate`, not part of the manifest

The runtime reads nothing of `networks/`: a copy without that folder serves (docs/decisions/161).

Every file that the manifest lists carries its size and sha256, and is checked against them before it is loaded. A
bundle may come from anywhere: nothing in it leads out of its folder, and whatever is wrong with it is a BundleError.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cameo.artifact import sha256_of, size_of
from cameo.errors import BundleError
from cameo.modes import MODES
from cameo.schema import SchemaError, parse, strict_json
from cameo.tensors import TensorSpec, within

FORMAT = 2
MANIFEST_NAME = "bundle.json"
_MAX_MANIFEST: Final = 16 * 2**20  # GPEN's with every engine and profile takes 0.05 MiB
_MAX_SIDE: Final = 2**16
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a model, a network, a flow or an engine may be called: it reaches file names, terminals and pages."""


def _check_names(**names: str) -> None:
    for what, name in names.items():
        if not NAME.fullmatch(name):
            raise SchemaError(f"{what} is {name!r:.60}, expected a name of letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class StoredFile:
    """A file or folder of the bundle: `path` relative to the bundle's folder."""

    path: str
    format: str
    sha256: str
    bytes: int

    def check(self) -> None:
        """Raises SchemaError: the path is not a relative POSIX path that goes down only, or the hash is none."""
        parts = self.path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in self.path or ":" in self.path:
            raise SchemaError(f"path is {self.path!r:.60}, expected one like engines/NAME, inside the bundle's folder")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise SchemaError(f"sha256 is {self.sha256!r:.60}, expected 64 hexadecimal digits")


@dataclass(frozen=True)
class Profile:
    """One optimization profile of a built engine and the memory its builder planned for it.

    `min`, `opt` and `max` are shapes of the input `image` (N, H, W, 3). Memory is what the builder's log says for
    `target`; None where the engine plans nothing ahead of time.
    """

    name: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]
    target: str = ""
    weight_bytes: int | None = None
    activation_bytes: int | None = None

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether an image of this shape, of which the last axes may be missing, is within the range."""
        return within(self.min, shape, self.max)

    @property
    def planned_mib(self) -> float | None:
        """Weights and activations together, or None where they are not known."""
        if self.weight_bytes is None or self.activation_bytes is None:
            return None
        return (self.weight_bytes + self.activation_bytes) / 2**20

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Profile:
        """The profile that a builder's facts tell."""
        known: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in fields.items()}
        return cls(**known)

    def check(self) -> None:
        """Raises SchemaError: the shapes are not those of a range."""
        shapes = (self.min, self.opt, self.max)
        ordered = all(1 <= low <= usual <= high <= _MAX_SIDE for low, usual, high in zip(*shapes, strict=False))
        if {len(shape) for shape in shapes} != {4} or not ordered:
            raise SchemaError(f"min is {self.min!s:.60}, expected 1 <= min <= opt <= max, each of N, H, W and channels")


@dataclass(frozen=True)
class EngineEntry:
    """One engine of one network. Two entries may share a file (OpenVINO runs one IR as f32 and as bf16).

    A network has one entry for each engine, precision and mode (one of `MODES`).
    """

    engine: str
    precision: str
    file: StoredFile
    targets: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    mode: str = MODES[0]

    def check(self) -> None:
        """Raises SchemaError: a name is no name, or the mode is none of `MODES`."""
        _check_names(engine=self.engine, precision=self.precision)
        if self.mode not in MODES:
            raise SchemaError(f"mode is {self.mode!r:.60}, expected one of {', '.join(MODES)}")

    @property
    def label(self) -> str:
        """The engine in words: "openvino bf16", "openvino bf16 (balanced)"."""
        return engine_label(self.engine, self.precision, self.mode)

    @property
    def subject(self) -> str:
        """The engine in names: "openvino-bf16", "openvino-bf16-balanced"."""
        return "-".join((self.engine, self.precision, *((self.mode,) if self.mode != MODES[0] else ())))


def engine_label(engine: str, precision: str, mode: str) -> str:
    """An engine in words; the mode is said where it is not the usual one."""
    return f"{engine} {precision}" + (f" ({mode})" if mode != MODES[0] else "")


@dataclass(frozen=True)
class ConvertedGraph:
    """A graph made of the network's (in another precision, or pruned), and the JSON record of how."""

    onnx: StoredFile
    record: StoredFile


@dataclass(frozen=True)
class NetworkEntry:
    """One network of the bundle, with the checkpoint it came from and its engines.

    `converted` is by what was done: "fp16", "int8", "pruned", "pruned.fp16",
    "qat" (weights that learned to live with INT8), "qat.int8", "student".
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    onnx: StoredFile
    source: Mapping[str, Any]
    engines: tuple[EngineEntry, ...]
    converted: Mapping[str, ConvertedGraph] = field(default_factory=dict)

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file of the network."""
        converted = (file for graph in self.converted.values() for file in (graph.onnx, graph.record))
        return (self.onnx, *converted, *(entry.file for entry in self.engines))


@dataclass(frozen=True)
class Manifest:
    """What `bundle.json` says."""

    model: str
    flow: str
    networks: Mapping[str, NetworkEntry]
    assets: Mapping[str, StoredFile]
    provenance: Mapping[str, Any]

    def check(self) -> None:
        """Raises SchemaError: a name is no name, or a network is listed under another's."""
        _check_names(model=self.model, flow=self.flow)
        for name, network in self.networks.items():
            _check_names(networks=name)
            if network.name != name:
                raise SchemaError(f"networks.{name}.name is {network.name!r:.60}, expected {name}")

    def to_json(self) -> str:
        """The text of `bundle.json`, ending in the hash of everything before it."""
        body: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        return json.dumps({**body, "sha256": _digest(body)}, indent=2) + "\n"


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class Bundle:
    """An opened bundle: its manifest, and its files, each checked before use.

    Raises:
        BundleError: no bundle there, a manifest that was changed by hand or damaged, or one of a newer format.
    """

    def __init__(self, folder: str | Path) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise BundleError(f"a bundle was asked for by {folder!r:.60}, expected the path of its folder")
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)

    @property
    def networks(self) -> Mapping[str, NetworkEntry]:
        return self.manifest.networks

    def network(self, name: str) -> NetworkEntry:
        """The entry of one network.

        Raises:
            BundleError: the bundle has no network of that name.
        """
        try:
            return self.networks[name]
        except KeyError:
            known = ", ".join(self.networks)
            raise BundleError(
                f"{self.folder} has no network '{name}': it holds {known}; build it again with it"
            ) from None

    def verified(self, file: StoredFile) -> Path:
        """The path of a file of the bundle whose content is what the manifest says.

        Raises:
            BundleError: the file is missing, leads out of the bundle, is no ordinary file or was changed.
        """
        path = self.folder / file.path
        _check_ordinary(self.folder, path)
        for member in sorted(path.rglob("*")) if path.is_dir() else ():
            _check_ordinary(self.folder, member)
        for what, expected, measure in (("bytes", file.bytes, size_of), ("sha256", file.sha256, sha256_of)):
            found = measure(path)
            if found != expected:
                raise BundleError(
                    f"{path} was changed since the bundle was built (expected {what} {expected!s:.16}, "
                    f"got {found!s:.16}): build it again, or copy it afresh"
                )
        return path


def _check_ordinary(folder: Path, path: Path) -> None:
    """Raises BundleError unless `path` is a file or folder inside `folder`; it is not opened, as a pipe would wait."""
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
        kind = path.stat().st_mode
    except FileNotFoundError:
        raise BundleError(f"{path} is missing from the bundle: build it again, or copy the whole folder") from None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
        raise BundleError(f"{path} cannot be read ({error}): build the bundle again, or copy it afresh") from None
    if not inside:
        raise BundleError(
            f"{path} leads out of the bundle's folder: build it again, or copy it from where it was built"
        )
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise BundleError(f"{path} is neither a file nor a folder: build it again, or copy it from where it was built")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        hint = "is not a folder" if not folder.is_dir() else f"holds no {MANIFEST_NAME}"
        raise BundleError(f"{folder} is no bundle: it {hint}; `make engines` of a checkout builds one")
    _check_ordinary(folder, path)
    try:
        body = strict_json(_text(path))
        if not isinstance(body, dict) or not {"format", "sha256"} <= set(body):
            raise SchemaError("it is not the JSON that a build writes")
        stored, version = body.pop("sha256"), body.pop("format")
        manifest = parse(Manifest, body) if version == FORMAT else None
    except SchemaError as error:
        raise BundleError(f"{path} is damaged: {error}; build the bundle again") from None
    if manifest is None:
        found = f"has bundle format {version!r:.60}, this runtime reads {FORMAT}"
        raise BundleError(f"{path} {found}: build it again with this version")
    if _digest({"format": FORMAT, **body}) != stored:
        raise BundleError(f"{path} was changed since the bundle was built (its own sha256 differs): build it again")
    return manifest


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_MANIFEST + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    if len(content) > _MAX_MANIFEST:
        raise SchemaError(f"it is larger than {_MAX_MANIFEST / 2**20:.0f} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SchemaError(f"it is not UTF-8 ({error.reason})") from None
