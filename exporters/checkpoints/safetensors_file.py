"""The safetensors format: an 8-byte length, a JSON header of that length, then the tensors' bytes one after another.

The header maps each key to {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from the header's end;
`__metadata__` is free text. Source: the format's specification, github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameo.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the file by key, mapped from the file: pages are read when used.

    Raises:
        CheckpointError: damaged or truncated.
    """
    try:
        with path.open("rb") as file:
            # ACCESS_COPY: torch wants writable memory, the file stays as it is
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        length = int.from_bytes(data[:8], "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
            raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
        header = json.loads(data[8 : 8 + length])
        tensors = {key: _tensor(data, 8 + length, entry) for key, entry in header.items() if key != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or only a part of one ({error}): download it again"
        ) from error
    return tensors


def _tensor(data: mmap.mmap, base: int, entry: Mapping[str, Any]) -> Tensor:
    import torch

    dtype, shape = getattr(torch, _DTYPES[entry["dtype"]]), entry["shape"]
    begin, end = (base + offset for offset in entry["data_offsets"])
    count = math.prod(shape)
    if not base <= begin <= end <= len(data) or end - begin != count * dtype.itemsize:
        raise ValueError(f"{end - begin} bytes at {begin} for {entry['dtype']} {shape} in a file of {len(data)} bytes")
    if not count:
        return torch.empty(shape, dtype=dtype)
    raw = torch.frombuffer(data, dtype=torch.uint8, count=end - begin, offset=begin)
    # A tensor may begin at any byte: where it does not lie on its own size, torch needs a copy that does.
    aligned = raw if begin % dtype.itemsize == 0 else raw.clone()
    return aligned.view(dtype).reshape(shape)
