"""A bundle: the folder that a build leaves behind and the runtime serves from.

    DIR/bundle.json            this module's `Manifest`, with its own sha256
    DIR/networks/NAME.onnx     one ONNX graph per network, the source of truth
    DIR/networks/NAME.fp16.*   the same converted to another precision, and the record of how (which nodes stayed FP32)
    DIR/engines/NAME.ENGINE*   what the engine builders made of it
    DIR/assets/...             what the flow needs besides networks (DCT-Net's alpha mask)
    DIR/report.json, .html     written by `validate`, not part of the manifest

Every file that the manifest lists carries its sha256, and is checked against it before it is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cameo.artifact import sha256_of
from cameo.errors import BundleError
from cameo.tensors import TensorSpec

FORMAT = 2
MODES = ("quality", "balanced", "fast")
"""What an engine gives up for speed and memory: nothing that shows; a little (INT8, pruned); more (a student)."""
MANIFEST_NAME = "bundle.json"


@dataclass(frozen=True)
class StoredFile:
    """A file or folder of the bundle: `path` relative to the bundle's folder."""

    path: str
    format: str
    sha256: str
    bytes: int


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

    def to_json(self) -> str:
        """The text of `bundle.json`, ending in the hash of everything before it."""
        body: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        return json.dumps({**body, "sha256": _digest(body)}, indent=2) + "\n"


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _profile(fields: Mapping[str, Any]) -> Profile:
    shapes = {name: tuple(fields[name]) for name in ("min", "opt", "max")}
    return Profile(**{**fields, **shapes})


def _engine(fields: Mapping[str, Any]) -> EngineEntry:
    return EngineEntry(
        fields["engine"],
        fields["precision"],
        StoredFile(**fields["file"]),
        tuple(fields["targets"]),
        tuple(map(_profile, fields["profiles"])),
        fields["facts"],
        fields["mode"],
    )


def _network(fields: Mapping[str, Any]) -> NetworkEntry:
    return NetworkEntry(
        fields["name"],
        tuple(map(TensorSpec.from_json, fields["inputs"])),
        tuple(map(TensorSpec.from_json, fields["outputs"])),
        StoredFile(**fields["onnx"]),
        fields["source"],
        tuple(map(_engine, fields["engines"])),
        {
            precision: ConvertedGraph(StoredFile(**files["onnx"]), StoredFile(**files["record"]))
            for precision, files in fields.get("converted", {}).items()
        },
    )


class Bundle:
    """An opened bundle: its manifest, and its files, each checked before use.

    Raises:
        BundleError: no bundle there, a manifest that was changed by hand or damaged, or one of a newer format.
    """

    def __init__(self, folder: str | Path) -> None:
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
        """The absolute path of a file of the bundle whose content is what the manifest says.

        Raises:
            BundleError: the file is missing or was changed.
        """
        path = self.folder / file.path
        if not path.exists():
            raise BundleError(f"{path} is missing from the bundle: build it again, or copy the whole folder")
        found = sha256_of(path)
        if found != file.sha256:
            raise BundleError(
                f"{path} was changed since the bundle was built (expected sha256 {file.sha256[:12]}..., "
                f"got {found[:12]}...): build it again, or copy it afresh"
            )
        return path


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        hint = "is not a folder" if not folder.is_dir() else f"holds no {MANIFEST_NAME}"
        raise BundleError(f"{folder} is no bundle: it {hint}; make one with `python -m pipeline build`")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        stored = body.pop("sha256")
        version = body.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise BundleError(
            f"{path} is damaged: it is not the JSON that a build writes; build the bundle again"
        ) from None
    if version != FORMAT:
        raise BundleError(
            f"{path} has bundle format {version}, this runtime reads {FORMAT}: build it again with this version"
        )
    if _digest({"format": version, **body}) != stored:
        raise BundleError(f"{path} was changed since the bundle was built (its own sha256 differs): build it again")
    return Manifest(
        body["model"],
        body["flow"],
        {name: _network(fields) for name, fields in body["networks"].items()},
        {name: StoredFile(**fields) for name, fields in body["assets"].items()},
        body["provenance"],
    )
