"""Pickles of torch.save, read as data: tensors, arrays and plain values are made, all else is refused by its name.

Which values count as plain, and why torch's own list does not do: docs/decisions/113.
"""

from __future__ import annotations

import argparse
import datetime
import io
import pathlib
import pickle
import re
import threading
import warnings
from pathlib import Path
from typing import Any

from cameo.errors import CheckpointError
from exporters.checkpoints.plain_numpy import MAKERS

_GLOBAL = re.compile(r"GLOBAL (\S+)|<(?:class|function|built-in function) '?([\w.]+)")
_allowing = threading.Lock()  # torch keeps one list of what is allowed for all threads


def load_plain(path: Path, source: Path | io.BytesIO, network: str, mapped: bool) -> Any:
    """What torch reads from `source`, which stands for the file at `path`; mapped instead of read where `mapped`.

    Raises:
        CheckpointError: damaged, or code.
    """
    import torch

    try:
        with _allowing, warnings.catch_warnings(), torch.serialization.safe_globals(_plain_data()):
            warnings.simplefilter("ignore")  # about pickle protocols and old storages: what matters is raised
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _refused(path, network, error) from error
    except Exception as error:  # a damaged file raises whatever its bytes lead the reader to
        raise unreadable(path, network, first_line(error)) from error


def _plain_data() -> list[Any]:
    """What training files hold besides tensors: makers of plain values, by the names that pickles call them by."""
    named: list[Any] = [*MAKERS, (_empty_dict, "collections.defaultdict"), (_namespace, "types.SimpleNamespace")]
    for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        maker = pathlib.PureWindowsPath if "Windows" in kind else pathlib.PurePosixPath
        named += [(maker, f"{home}.{kind}") for home in ("pathlib", "pathlib._local")]
    times = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone)
    return [*named, *times, *(argparse.Namespace, list, dict, int, float, str, bool, tuple)]


def _empty_dict(*_: Any) -> dict[Any, Any]:
    """Stands for a defaultdict, whose items follow in the pickle."""
    return {}


def _namespace(*_: Any) -> argparse.Namespace:
    """Stands for a SimpleNamespace, whose state follows in the pickle."""
    return argparse.Namespace()


def _refused(path: Path, network: str, error: Exception) -> CheckpointError:
    """The error for a pickle that torch does not read as data."""
    message = str(error)
    if opcode := re.search(r"Unsupported operand (14\d|15\d)", message):
        return too_new(path, network, f"opcode {opcode[1]}")
    if forbidden := _GLOBAL.search(message):
        return CheckpointError(
            f"{path} wants to run code ({forbidden[1] or forbidden[2]}), which weights have no need of: nothing was "
            f"run; get the weights of {network} from their authors, as a plain state dict or .safetensors"
        )
    return unreadable(path, network, first_line(error))


def too_new(path: Path, network: str, what: str) -> CheckpointError:
    """The error for a pickle that torch itself would not read as data."""
    return CheckpointError(
        f"{path} is a pickle of a newer protocol than torch.save uses ({what}), which is not read as data: save the "
        f"weights of {network} again without pickle_protocol"
    )


def unreadable(path: Path, network: str, reason: str) -> CheckpointError:
    """The error for a file that is damaged, or of no kind that is known."""
    return CheckpointError(
        f"{path} is not a PyTorch checkpoint, or only a part of one, or damaged ({reason}): expected the weights of "
        f"{network}; compare its size with the published one and download it again"
    )


def first_line(error: Exception) -> str:
    """What the error says, without what torch adds about its options."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    text = (text.splitlines() or [""])[0].rstrip(".:")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
