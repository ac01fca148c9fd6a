"""PyTorch checkpoints, read as data and never as code: .pth, .pt and .safetensors to a plain state dict.

What people ship varies: a bare state dict, one inside a training file (`{"g_ema": ..., "d": ...}`), keys with the
prefix of a wrapper (`module.`). All come out as float32 tensors under the keys that the network's authors use.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cameo.errors import CheckpointError
from exporters.checkpoints.kinds import Shapes, looks_like
from exporters.checkpoints.safetensors_file import read_safetensors

if TYPE_CHECKING:
    from torch import Tensor, nn

Module = TypeVar("Module", bound="nn.Module")

CONTAINERS = ("g_ema", "params_ema", "net_recon", "state_dict", "params", "model", "net", "g")
"""Where training files keep the weights to serve, the averaged ones first."""

WRAPPERS = ("module.model.", "module.", "_orig_mod.", "g_ema.")
"""Prefixes that data parallelism, torch.compile and whole-trainer dicts put before every key."""

_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
_POINTER = b"version https://git-lfs"
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_EXAMPLES = 3


def load_state_dict(path: Path, network: str) -> dict[str, Tensor]:
    """The weights in the file at `path`, float32 on the CPU by key; `network` is only named in errors.

    Raises:
        CheckpointError: missing, damaged, not weights, code, or numbers that are not finite.
    """
    _check_file(path, network)
    with path.open("rb") as file:
        start = file.read(64)
    _check_start(path, start, network)
    is_safetensors = path.suffix == ".safetensors" or start[8:9] == b"{"
    loaded = read_safetensors(path) if is_safetensors else _read_pickle(path, network)
    state = _without_wrappers(_state_dict_in(loaded, path, network))
    return {key: _checked(tensor, key, path) for key, tensor in state.items()}


def check_keys(
    found: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], network: str, path: Path | None = None
) -> None:
    """Insist on exactly the expected keys and shapes.

    Raises:
        CheckpointError: any key is missing, extra or of another shape.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in found.items()}
    missing = [key for key in expected if key not in shapes]
    extra = [key for key in shapes if key not in expected]
    ill_shaped = [
        f"{key} is {list(shapes[key])} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in shapes and shapes[key] != tuple(shape)
    ]
    if missing or extra or ill_shaped:
        differences = [_count(missing, "missing"), _count(extra, "unexpected"), _count(ill_shaped, "of another shape")]
        raise CheckpointError(
            f"{path or 'the checkpoint'} does not fit {network}: it looks like {looks_like(shapes)}, and of "
            f"{len(expected)} keys {'; '.join(filter(None, differences))}: use the file published for {network}"
        )


def wrong_network(
    found: Mapping[str, Tensor], expected: str, network: str, path: Path | None = None
) -> CheckpointError:
    """The error for a checkpoint that is not of the family at all."""
    return CheckpointError(
        f"{path} is not for {network}: it looks like {looks_like(shapes_of(found))}, expected "
        f"{expected}: use the file published for {network}"
    )


def with_weights(module: Module, state: Mapping[str, Tensor], network: str, path: Path, assign: bool = False) -> Module:
    """`module` with the weights of a checkpoint, in evaluation mode; to `assign` is for modules without memory.

    Raises:
        CheckpointError: any key is missing, extra or of another shape.
    """
    check_keys(state, shapes_of(module.state_dict()), network, path)
    module.load_state_dict(state, assign=assign)
    return module.eval()


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """The shape of every tensor by key."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _check_file(path: Path, network: str) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: expected the weight file of {network} (.pth, .pt or .safetensors)")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: expected the weights of {network} (.pth, .pt or .safetensors)")
    if not path.stat().st_size:
        raise CheckpointError(f"{path} is empty: expected the weights of {network}; download the file again")


def _check_start(path: Path, start: bytes, network: str) -> None:
    if _PAGE.match(start):
        raise CheckpointError(f"{path} is a web page, not the weights of {network}: download the file itself")
    if start.startswith(_POINTER):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights of {network}: run `git lfs pull`")


def _read_pickle(path: Path, network: str) -> Any:
    """Whatever torch saved at `path`, built from tensors and plain containers only."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and old storages: what matters is raised
            # Mapped weights take memory only as they are used; files of before torch 1.6 are no zip, hence not mapped.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if forbidden := _GLOBAL.search(str(error)):
            raise CheckpointError(
                f"{path} wants to run code ({forbidden[1]}), which weights have no need of: nothing was run; "
                f"get the weights of {network} from their authors, as a plain state dict or .safetensors"
            ) from error
        raise _unreadable(path, network, error) from error
    except Exception as error:  # a damaged file raises whatever its bytes lead the reader to
        raise _unreadable(path, network, error) from error


def _unreadable(path: Path, network: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a PyTorch checkpoint, or only a part of one ({type(error).__name__}): expected the weights of "
        f"{network}; compare its size with the published one and download it again"
    )


def _state_dict_in(loaded: Any, path: Path, network: str) -> dict[str, Tensor]:
    import torch

    if isinstance(loaded, Mapping):
        for name in CONTAINERS:
            if isinstance(loaded.get(name), Mapping):
                return _state_dict_in(loaded[name], path, network)
        state = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
        if state and all(isinstance(key, str) for key in state):
            return state
    content = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise CheckpointError(
        f"{path} holds no state dict of {network} (it holds: {content or 'nothing'}): expected tensors by name, bare "
        f"or under one of {', '.join(CONTAINERS)}"
    )


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            return _without_wrappers({key.removeprefix(prefix): tensor for key, tensor in state.items()})
    averaged = {key.removeprefix("g_ema."): tensor for key, tensor in state.items() if key.startswith("g_ema.")}
    return averaged or state


def _checked(tensor: Tensor, key: str, path: Path) -> Tensor:
    """The tensor as float32 (integers stay), proven to be dense and finite."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise CheckpointError(
            f"{path}: {key} is not a plain tensor ({tensor.dtype}, {tensor.layout}): save it as float32"
        )
    tensor = tensor.detach()
    if not tensor.is_floating_point():
        return tensor
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise CheckpointError(
            f"{path}: {key} has {bad} of {tensor.numel()} values that are NaN or infinite: the training broke or the "
            "file is damaged; get it again"
        )
    return tensor.float()


def _count(names: list[str], what: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _EXAMPLES else ""
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} {what} ({', '.join(names[:_EXAMPLES])}{more})"
