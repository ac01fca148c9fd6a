"""ONNX graphs may keep their weights in files beside them: which, and whether a graph may read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cameo.errors import CheckpointError

if TYPE_CHECKING:
    import onnx

_MOST_BYTES = 2**31 - 1
"""Protobuf's limit for a message: a graph is written with its weights inside."""


def external_files(path: Path) -> list[Path]:
    """The files beside the graph at `path` that hold weights of it, sorted; none for what is not a graph.

    Raises:
        CheckpointError: one is missing, or lies where a graph has no business to look.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return files_of(onnx.load(path, "protobuf", load_external_data=False), path)
    except (DecodeError, OSError):
        return []  # the stage that reads it says what is wrong


def files_of(model: onnx.ModelProto, path: Path) -> list[Path]:
    """The same of a model that was read from `path` without its weights.

    Raises:
        CheckpointError: as above, or there is more in them than fits into one file.
    """
    files = sorted({_file(location, path) for location in _locations(model)})
    if (size := sum(file.stat().st_size for file in files)) > _MOST_BYTES:
        raise CheckpointError(
            f"{path} keeps {size:,} bytes of weights in {len(files)} files beside it: expected at most "
            f"{_MOST_BYTES:,}, which is what one ONNX file holds; take a smaller network, or one in FP16"
        )
    return files


def _locations(model: onnx.ModelProto) -> set[str]:
    from onnx import external_data_helper

    # Its underscore notwithstanding: constants of nodes and of subgraphs keep data outside as well, and onnx has no
    # other walk over them all.
    tensors = external_data_helper._get_all_tensors(model)
    return {
        next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        for tensor in tensors
        if external_data_helper.uses_external_data(tensor)
    }


def _file(location: str, path: Path) -> Path:
    file = (path.parent / location).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise CheckpointError(
            f"{path} keeps its weights in '{location}', outside its own folder: expected a file beside it; "
            "export it again, and do not trust its source"
        )
    if not file.is_file():
        raise CheckpointError(
            f"{path} keeps its weights in '{location}', which is missing beside it: copy that file as well"
        )
    return file
