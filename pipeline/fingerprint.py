"""What a stage's result depends on besides its input: its parameters, its source and its tools."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from cameo.artifact import Artifact, sha256_of
from cameo.errors import CameoError
from pipeline.stage import Stage
from validate.provenance import device

PROJECT = ("cameo", "metrics", "engines", "compress", "optimize", "exporters", "validate")
READ_GRAPHS = ("optimize", "engines")
"""Where the stages are whose input is an ONNX graph."""


def stage_key(stage: Stage, source_sha256: str) -> str:
    """The cache key of `stage` on an input: full sha256 over everything that its result depends on."""
    depends_on = {
        "stage": stage.name,
        "input": source_sha256,
        "parameters": json.loads(stage_parameters(stage)),
        "source": _source_digest((type(stage).__module__, *getattr(stage, "rests_on", ()))),
        "tools": tool_versions(stage.tools),
    }
    if getattr(stage, "measures", False):
        depends_on["machine"] = machine()
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def machine() -> dict[str, str]:
    """What a measurement depends on besides the software: processor, cores, GPUs."""
    told = device()
    return {name: told[name] for name in ("processor", "cores", "bf16 instructions", "GPU")}


def input_sha256(stage: Stage, source: Artifact) -> str:
    """The hash of all that `stage` reads: of `source`, and of the files where a graph keeps its weights.

    Raises:
        CheckpointError: such a file is missing, or not beside the graph.
    """
    from engines._external_data import external_files

    if type(stage).__module__.split(".")[0] not in READ_GRAPHS:
        return source.sha256
    files = external_files(source.path)
    if not files:
        return source.sha256
    named = [f"{file.name}\0{sha256_of(file)}" for file in files]
    return hashlib.sha256("\n".join([source.sha256, *named]).encode(errors="surrogateescape")).hexdigest()


def stage_parameters(stage: Stage) -> str:
    """The stage's fields as JSON in ASCII; names of files are their UTF-8, whatever the locale.

    Raises:
        CameoError: the name of a file that the stage reads is not UTF-8.
    """
    text = json.dumps(TypeAdapter(type(stage)).dump_python(stage, mode="json"), ensure_ascii=False)
    try:
        fields = json.loads(text.encode(errors="surrogateescape"))
    except UnicodeDecodeError as error:
        raise CameoError(f"a file for {stage.name} has a name that is not UTF-8: rename it ({text!a})") from error
    return json.dumps(fields, separators=(",", ":"))


def tool_versions(tools: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each distribution ("" where it is not installed)."""
    return {tool: _version(tool) for tool in tools}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def _source_digest(modules: tuple[str, ...]) -> str:
    """One hash over the source of `modules` and of every project module that they import, however deep."""
    waiting, files = list(modules), dict[str, bytes]()
    while waiting:
        name = waiting.pop()
        if name in files or name.split(".")[0] not in PROJECT:
            continue
        path = _source_file(name)
        if path is None:
            continue
        files[name] = path.read_bytes()
        waiting.extend(_imports(files[name]))
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return whole.hexdigest()


def _source_file(module: str) -> Path | None:
    """The file of a module; None for names that are no module (`from module import function`)."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _imports(source: bytes) -> list[str]:
    """Every module that the source may import, at any depth; `from a import b` gives both a and a.b."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return names
