"""What torch.save wrote, read as data and never as code.

A checkpoint of today is a zip archive: a pickle, and the bytes of each tensor in a record of its own. torch neither
compares the records' checksums nor looks whether a record is as long as its tensor, or compressed, before it maps it;
all of that is done here (docs/decisions/112). Files of before torch 1.6 are pickles with the bytes behind them, and
have no checksums.
"""

from __future__ import annotations

import collections
import io
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cameo.errors import CheckpointError
from exporters.checkpoints.file_kinds import is_archive, refuse_other_archives
from exporters.checkpoints.plain_pickle import first_line, load_plain, too_new, unreadable

MAX_INFLATED_BYTES = 8 * 2**30
"""What a compressed archive may hold: it has to fit into memory."""

_ALIGNMENT = 16  # of mapped tensors; torch itself aligns them to 64
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip record: the lengths of its name and of its extra field
_CHUNK = 2**20
_NEWEST_PROTOCOL = 3  # whose opcodes torch's own reader knows


def read_torch_file(path: Path, network: str) -> Any:
    """Whatever torch saved at `path`, built from tensors, arrays and plain values only; mapped where that is possible.

    Raises:
        CheckpointError: damaged, something else than a checkpoint, or code.
    """
    if not is_archive(path):
        return load_plain(path, path, network, mapped=False)
    if not zipfile.is_zipfile(path):
        raise unreadable(path, network, "the end of its archive is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path, network)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged archive raises whatever its bytes lead the reader to
        raise unreadable(path, network, first_line(error)) from error


def _read_archive(archive: zipfile.ZipFile, path: Path, network: str) -> Any:
    refuse_other_archives(path, network, archive.namelist())
    records = [record for record in archive.infolist() if not record.is_dir()]
    root = _check_directory(records)
    pickled = archive.read(f"{root}data.pkl")
    if pickled[1] > _NEWEST_PROTOCOL:
        raise too_new(path, network, f"protocol {pickled[1]}")
    _check_storages(pickled, {record.filename: record for record in records}, root)
    if not (_is_as_torch_packs(records, root) and all(_can_be_mapped(path, record) for record in records)):
        return load_plain(path, _stored(archive, records, root), network, mapped=False)
    for record in records:
        _check_record(archive, record)
    return load_plain(path, path, network, mapped=True)


def _check_directory(records: Sequence[zipfile.ZipInfo]) -> str:
    """The folder that the checkpoint lies in; an archive that was written without checksums is prepared for that."""
    twice = [name for name, count in collections.Counter(r.filename for r in records).items() if count > 1]
    if twice:
        raise ValueError(f"it has two records {twice[0]}")
    if not any(record.CRC for record in records):
        for record in records:  # torch.serialization.set_crc32_options(False)
            record.CRC = None  # type: ignore[assignment]  # zipfile then compares nothing
    inflated = sum(record.file_size for record in records)
    if any(r.compress_type != zipfile.ZIP_STORED for r in records) and inflated > MAX_INFLATED_BYTES:
        raise ValueError(f"it is compressed and would take {inflated:,} bytes")
    first, *more = [r.filename for r in records if r.filename.rpartition("/")[2] == "data.pkl"]
    if more:
        raise ValueError(f"it has several checkpoints, {first} and {', '.join(more)}")
    return first.removesuffix("data.pkl")


def _is_as_torch_packs(records: Sequence[zipfile.ZipInfo], root: str) -> bool:
    return root.count("/") == 1 and all(record.filename.startswith(root) for record in records)


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
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE", "LIST", "DICT", "SETITEMS", "APPENDS", "POP_MARK"):
            begin = marks.pop()
            stack[begin:] = [tuple(stack[begin:])] if name == "TUPLE" else []
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


def _can_be_mapped(path: Path, record: zipfile.ZipInfo) -> bool:
    """Whether the record lies in the file as it is, and where numbers may lie."""
    if record.compress_type != zipfile.ZIP_STORED:
        return False
    with path.open("rb") as file:
        file.seek(record.header_offset)
        begin = record.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
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
