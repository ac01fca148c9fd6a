"""What a file is that was given as weights and is not, told by its first bytes: a refusal names the true cause."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from cameo.errors import CheckpointError

PYTORCH = "a PyTorch checkpoint"
SAFETENSORS = "a safetensors file"
FROZEN_GRAPH = "a frozen TensorFlow graph"

_START = 512
_AGAIN = "download the file itself"
_UNPACK = "unpack it, and name the file inside"

_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull`"),
    (rb"<\?xml[^<]*<net ", "an OpenVINO network", "name the checkpoint that it was made from"),
    (rb"\s*<(?i:!doctype|html|\?xml)", "a web page", _AGAIN),
    (rb'\s*\{.*"weight_map"', "the index of a checkpoint in several files", "join them into one .safetensors"),
    (rb"[\x20-\x7e\x80-\xff\s]+\Z", "a text", "it may tell why the download failed"),
    (rb".{4}\0{4}\{", SAFETENSORS, "name the file of this network"),  # its length comes first, and may look like others
    (rb"\0{64}", "empty at its beginning", "the download did not end; start it again"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", "name the file that the authors publish"),
    (rb"GGUF", "a GGUF file", "name the checkpoint that it was made from"),
    (rb"....TFL3", "a TensorFlow Lite model", "name the checkpoint that it was made from"),
    (rb"\x93NUMPY", "a NumPy array", "name the file that the authors publish"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar", "a packed archive", _UNPACK),
    (rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP", "a picture", "name the file that the authors publish"),
    (rb"\x08\x01\x12", "the graph of a SavedModel", "name the single file that the authors publish"),
    (rb"\x08[\x02-\x14][\x12\x3a\x42]", "an ONNX graph", "name the checkpoint, or use `python -m pipeline optimize`"),
    (rb"\n[\x01-\xff]{1,3}\n[\x01-\x7f][\w./]", FROZEN_GRAPH, "name the checkpoint of this network"),
    (rb"PK\x03\x04|\x80[\x02-\x05][\x8a}\x95c(]", PYTORCH, "name the file of this network"),
    (rb".{8}\{", SAFETENSORS, "name the file of this network"),
)
_COMPILED = [(re.compile(pattern, re.DOTALL), kind, advice) for pattern, kind, advice in _KINDS]

_PROGRAMS: tuple[tuple[str, str, str], ...] = (
    (
        r"/constants\.pkl$",
        "a TorchScript archive (torch.jit.save), a program that comes with weights",
        "nothing of it was run; save what `torch.jit.load(file).state_dict()` gives with torch.save",
    ),
    (
        r"(^|/)(serialized_exported_program\.json|archive_format)$",
        "a program of torch.export",
        "nothing of it was run; save the state dict of the module with torch.save",
    ),
    (r"/extern_modules$", "a torch.package", "nothing of it was run; save the state dict of the module"),
)
_PACKED: tuple[tuple[str, str, str], ...] = (
    (r"(^|/)saved_model\.pb$", "a packed SavedModel", "name the single file that the authors publish"),
    (r"\.weights\.h5$", "a Keras model", "name the file that the authors publish"),
    (r"\.npy$", "a file of NumPy arrays", "name the file that the authors publish"),
    (r"\.(pth?|safetensors|ckpt|bin|pb|onnx|tar|gz)$", "a packed archive", _UNPACK),
)


def refuse_other_kinds(path: Path, network: str, expected: Sequence[str]) -> str:
    """Which of the `expected` kinds the file is of; "" where its beginning tells nothing.

    Raises:
        CheckpointError: it is something else.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    for pattern, kind, advice in _COMPILED:
        if pattern.match(start):
            if kind not in expected:
                raise other_kind(path, network, kind, advice)
            return kind
    return ""


def refuse_other_archives(path: Path, network: str, names: Sequence[str]) -> None:
    """Do nothing where a zip archive of files with these names is a PyTorch checkpoint.

    Raises:
        CheckpointError: it is something else.
    """
    of_torch = any(re.search(r"(^|/)data\.pkl$", name) for name in names)
    for pattern, kind, advice in _PROGRAMS if of_torch else (*_PROGRAMS, *_PACKED):
        for name in names:
            if re.search(pattern, name):
                raise other_kind(path, network, kind, f"{advice} ({name})" if advice is _UNPACK else advice)
    if not of_torch:
        raise other_kind(path, network, f"a zip archive (of {', '.join(names[:3]) or 'nothing'})", _AGAIN)


def other_kind(path: Path, network: str, kind: str, advice: str) -> CheckpointError:
    """The error for a file that is whole and something else."""
    return CheckpointError(f"{path} is {kind}, not the weights of {network}: {advice}")


def is_archive(path: Path) -> bool:
    """Whether the file begins as a zip archive does; `zipfile.is_zipfile` looks at its end, which may be missing."""
    with path.open("rb") as file:
        return file.read(4) == zipfile.stringFileHeader
