"""PyTorch checkpoints: .pth, .pt and .safetensors, read as data and never as code, to a plain state dict, and back.

What people ship varies: a bare state dict, one inside a training file (`{"g_ema": ..., "d": ...}`), keys with the
prefix of a wrapper (`module.`). All come out as float32 tensors under the keys that the network's authors use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cameo.errors import CheckpointError, OutputError
from exporters.checkpoints.file_kinds import PYTORCH, SAFETENSORS, other_kind, refuse_other_kinds
from exporters.checkpoints.kinds import Shapes, looks_like
from exporters.checkpoints.parts import choose
from exporters.checkpoints.torch_file import read_torch_file
from metrics.finite import not_finite

if TYPE_CHECKING:
    from torch import Tensor, nn

Module = TypeVar("Module", bound="nn.Module")

_EXAMPLES = 3
_MOST_GROWTH = 4
"""Times its file that a checkpoint's weights may take as float32: from 8 bits to 32."""
_SPARE_BYTES = 64 * 2**20


def load_state_dict(path: Path, network: str, part: str = "") -> dict[str, Tensor]:
    """The weights in the file at `path`, float32 on the CPU by key, of the part called `part` where it has several.

    `network` tells which of several parts are meant, and is named in errors. Averaged weights go before others.

    Raises:
        CheckpointError: missing, damaged, not weights, code, numbers that are not finite, or several parts that could
            be meant.
    """
    _check_file(path, network)
    try:
        kind = refuse_other_kinds(path, network, (PYTORCH, SAFETENSORS))
        if path.suffix == ".safetensors" and kind == PYTORCH:
            raise other_kind(path, network, f"{PYTORCH} by another name", "call it .pth")
        is_safetensors = kind == SAFETENSORS or path.suffix == ".safetensors"
        loaded = _read_safetensors(path) if is_safetensors else read_torch_file(path, network)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    state = choose(loaded, path, network, part)
    for key, tensor in state.items():
        _check_plain(tensor, key, path)
    _check_sizes(state, path)
    return {key: _checked(tensor, key, path) for key, tensor in state.items()}


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write what `torch.save` makes of it; the file appears when it is whole.

    Raises:
        OutputError: it cannot be written.
    """
    import torch

    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:  # given a path, torch does not say why it cannot write
            torch.save(content, file)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            part.unlink()
        raise OutputError(f"cannot write {path} ({error}): check the folder and its free space") from error


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
        what = f"{path} is no regular file" if path.exists() else f"there is no file {path}"
        raise CheckpointError(f"{what}: expected the weights of {network} (.pth, .pt or .safetensors)")
    if not path.stat().st_size:
        raise CheckpointError(f"{path} is empty: expected the weights of {network}; download the file again")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the file by key, mapped from it: pages are read when used."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is not a safetensors file, or only a part of one ({reason}): download it again"
        ) from error


def _check_sizes(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse what is small in its file and large in memory, before any of it is copied.

    A tensor may repeat its numbers (a stride of 0), so that a file of a kilobyte holds gigabytes.
    """
    wanted = 4 * sum(tensor.numel() for tensor in state.values())
    storages = {
        storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in state.values())
    }
    if wanted > _MOST_GROWTH * sum(storages.values()) + _SPARE_BYTES:
        largest = max(state, key=lambda key: state[key].numel())
        raise CheckpointError(
            f"{path} holds {sum(storages.values()):,} bytes of weights that claim to be {wanted:,} (the largest is "
            f"{largest}, {list(state[largest].shape)}): their numbers are repeated; save them with `.contiguous()`"
        )


def _check_plain(tensor: Tensor, key: str, path: Path) -> None:
    import torch

    is_plain = tensor.layout == torch.strided and type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not is_plain or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise _not_plain(tensor, key, path)


def _not_plain(tensor: Tensor, key: str, path: Path) -> CheckpointError:
    kind = "quantized" if tensor.is_quantized else f"{tensor.dtype}, {tensor.layout}"
    return CheckpointError(f"{path}: {key} is not a plain tensor ({kind}): save it as float32")


def _checked(tensor: Tensor, key: str, path: Path) -> Tensor:
    """The tensor as float32 (integers stay), proven to be finite in it."""
    import torch

    tensor = tensor.detach()
    if not tensor.is_floating_point():
        return tensor
    try:
        weights = tensor.float()
    except RuntimeError as error:  # torch has types that it can store and not convert
        raise _not_plain(tensor, key, path) from error
    if not torch.isfinite(weights).all():
        raise not_finite(path, key, int((~torch.isfinite(weights)).sum()), weights.numel())
    return weights


def _count(names: list[str], what: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _EXAMPLES else ""
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} {what} ({', '.join(names[:_EXAMPLES])}{more})"
