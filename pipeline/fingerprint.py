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

from pipeline.stage import Stage
from validate.provenance import device

PROJECT = ("cameo", "metrics", "engines", "compress", "optimize", "exporters", "validate")


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


def stage_parameters(stage: Stage) -> str:
    """The stage's fields as JSON."""
    return TypeAdapter(type(stage)).dump_json(stage).decode()


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
