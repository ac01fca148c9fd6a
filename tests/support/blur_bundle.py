"""A small bundle of real engines, whose networks sum neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cameo.artifact import sha256_of, size_of
from cameo.bundle import EngineEntry, Manifest, NetworkEntry, StoredFile
from cameo.tensors import TensorSpec
from engines import EngineOptions, engine
from tests.engines.networks import EDGE, write_blur


def write_bundle(folder: Path, flow: str, networks: Sequence[str], engines: Sequence[str]) -> Path:
    """A bundle of `flow` at `folder`, each of its networks on these engines, in fp32."""
    graph, entries = write_blur(folder / "blur.onnx"), []
    for name in engines:
        engine(name).builder(EngineOptions()).run(graph, folder / name)
        entries.append(EngineEntry(name, "fp32", stored(folder / name)))
    edges = [(TensorSpec(name, "uint8", tuple(EDGE)),) for name in ("image", "result")]
    found = {name: NetworkEntry(name, edges[0], edges[1], stored(graph), {}, tuple(entries)) for name in networks}
    (folder / "bundle.json").write_text(Manifest("test", flow, found, {}, {}).to_json())
    return folder


def stored(path: Path) -> StoredFile:
    """What a manifest says of a file beside it."""
    return StoredFile(path.name, path.suffix or path.name, sha256_of(path), size_of(path))
