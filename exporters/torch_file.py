"""What torch.save wrote, read as data and never as code.

A checkpoint of today is a zip archive: a pickle, and the bytes of each tensor in a record of its own. torch neither
compares the records' checksums nor looks whether a record is as long as its tensor, or compressed, before it maps it;
all of that is done here. Files of before torch 1.6 are pickles with the bytes behind them, and have no checksums.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import pickletools
import re
import struct
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cameo.errors import CheckpointError
from exporters.file_kinds import is_archive, refuse_other_archives

MAX_INFLATED_BYTES = 8 * 2**30
"""What a compressed archive may hold: it has to fit into memory."""

_ALIGNMENT = 16  # of mapped tensors; torch itself aligns them to 64
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip record: the lengths of its name and of its extra field
_CHUNK = 2**20
_NEWEST_PROTOCOL = 3  # whose opcodes torch's own reader knows
_GLOBAL = re.compile(r"GLOBAL (\S+)|<(?:class|function|built-in function) '?([\w.]+)")
_allowing = threading.Lock()  # torch keeps one list of what is allowed for all threads


def read_torch_file(path: Path, network: str) -> Any:
    """Whatever torch saved at `path`, built from tensors, arrays and plain values only; mapped where that is possible.

    Raises:
        CheckpointError: damaged, something else than a checkpoint, or code.
    """
    if not is_archive(path):
        return _load(path, path, network, mapped=False)
    if not zipfile.is_zipfile(path):
        raise _unreadable(path, network, "the end of its archive is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_other_archives(path, network, archive.namelist())
            records = [record for record in archive.infolist() if not record.is_dir()]
            _check_directory(records)
            root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
            pickled = archive.read(f"{root}data.pkl")
            if pickled[1] > _NEWEST_PROTOCOL:
                raise _too_new(path, network, f"protocol {pickled[1]}")
            _check_storages(pickled, {record.filename: record for record in records}, root)
            if root and all(_can_be_mapped(archive, record) for record in records):
                for record in records:
                    _check_record(archive, record)
                return _load(path, path, network, mapped=True)
            return _load(path, _stored(archive, records, root), network, mapped=False)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged archive raises whatever its bytes lead the reader to
        raise _unreadable(path, network, _first_line(error)) from error


def _check_directory(records: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive that cannot be meant; prepare one that was written without checksums."""
    twice = [name for name, count in collections.Counter(r.filename for r in records).items() if count > 1]
    if twice:
        raise ValueError(f"it has two records {twice[0]}")
    if not any(record.CRC for record in records):
        for record in records:  # torch.serialization.set_crc32_options(False)
            record.CRC = None  # type: ignore[assignment]  # zipfile then compares nothing
    inflated = sum(record.file_size for record in records)
    if any(r.compress_type != zipfile.ZIP_STORED for r in records) and inflated > MAX_INFLATED_BYTES:
        raise ValueError(f"it is compressed and would take {inflated:,} bytes")


def _check_storages(pickled: bytes, records: dict[str, zipfile.ZipInfo], root: str) -> None:
    """Insist that every tensor's record is there, and as long as the tensor needs."""
    for key, needed in _storages(pickled):
        record = records.get(f"{root}data/{key}")
        if record is None:
            raise ValueError(f"the record data/{key} is missing")
        if not 0 <= needed <= record.file_size:
            raise ValueError(f"data/{key} has {record.file_size:,} bytes, its tensor {needed:,}")


def _storages(pickled: bytes) -> Iterator[tuple[str, int]]:
    """The key and the length in bytes of every storage that a pickle of torch's refers to.

    The pickle's opcodes are followed only as far as that takes: texts, numbers, tuples of them, and the memo.
    """
    from torch.serialization import StorageType

    stack: list[Any] = []
    memo: dict[int, Any] = {}
    mark = object()
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name == "MARK":
            stack.append(mark)
        elif name in ("TUPLE", "LIST", "DICT", "SETITEMS", "APPENDS", "POP_MARK"):
            begin = len(stack) - 1 - stack[::-1].index(mark)
            items, stack = tuple(stack[begin + 1 :]), stack[:begin]
            if name == "TUPLE":
                stack.append(items)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1] if stack else None
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo.get(argument))
        elif name == "BINPERSID":
            _, kind, key, _, count = stack.pop()
            kind = str(kind).rpartition(" ")[2]
            yield key, count * (1 if kind == "UntypedStorage" else StorageType(kind).dtype.itemsize)
        else:
            stack.append(argument)


def _can_be_mapped(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    """Whether the record lies in the file as it is, and where numbers may lie."""
    if record.compress_type != zipfile.ZIP_STORED:
        return False
    file = archive.fp
    if file is None:
        return False
    file.seek(record.header_offset)
    begin = record.header_offset + 30 + sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
    return "data/" not in record.filename or begin % _ALIGNMENT == 0


def _check_record(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    """Compare the record's bytes with its checksum, which reading to its end does."""
    with archive.open(record) as file:
        while file.read(_CHUNK):
            pass


def _stored(archive: zipfile.ZipFile, records: Sequence[zipfile.ZipInfo], root: str) -> io.BytesIO:
    """The records as torch would have written them: none compressed, all in one folder."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as copy:
        for record in records:
            if record.filename.startswith(root):
                copy.writestr(f"archive/{record.filename.removeprefix(root)}", archive.read(record))
    whole.seek(0)
    return whole


def _load(path: Path, source: Path | io.BytesIO, network: str, mapped: bool) -> Any:
    import torch

    try:
        with _allowing, warnings.catch_warnings(), torch.serialization.safe_globals(_plain_data()):
            warnings.simplefilter("ignore")  # about pickle protocols and old storages: what matters is raised
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _refused(path, network, error) from error
    except Exception as error:  # as above
        raise _unreadable(path, network, _first_line(error)) from error


def _plain_data() -> list[Any]:
    """What training files hold besides tensors: makers of plain values, by the names that pickles call them by."""
    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]  # their home moved with NumPy 2
    named: list[tuple[Callable[..., Any], str]] = [
        (maker, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for maker, name in ((array, "_reconstruct"), (scalar, "scalar"))
    ]
    for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        maker = pathlib.PureWindowsPath if "Windows" in kind else pathlib.PurePosixPath
        named += [(maker, f"{home}.{kind}") for home in ("pathlib", "pathlib._local")]
    named += [(_empty_dict, "collections.defaultdict"), (_namespace, "types.SimpleNamespace")]
    numbers = {type(np.dtype(code)) for code in np.typecodes["All"]}
    times = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone)
    return [
        *named,
        np.ndarray,
        np.dtype,
        *numbers,
        *times,
        argparse.Namespace,
        list,
        dict,
        int,
        float,
        str,
        bool,
        tuple,
    ]


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
        return _too_new(path, network, f"opcode {opcode[1]}")
    if forbidden := _GLOBAL.search(message):
        return CheckpointError(
            f"{path} wants to run code ({forbidden[1] or forbidden[2]}), which weights have no need of: nothing was "
            f"run; get the weights of {network} from their authors, as a plain state dict or .safetensors"
        )
    return _unreadable(path, network, _first_line(error))


def _too_new(path: Path, network: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is a pickle of a newer protocol than torch.save uses ({what}), which is not read as data: save the "
        f"weights of {network} again without pickle_protocol"
    )


def _unreadable(path: Path, network: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a PyTorch checkpoint, or only a part of one, or damaged ({reason}): expected the weights of "
        f"{network}; compare its size with the published one and download it again"
    )


def _first_line(error: Exception) -> str:
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    text = (text.splitlines() or [""])[0].rstrip(".:")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
