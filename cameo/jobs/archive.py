"""Photos that come in a zip, and results that go out in one.

Nothing is unpacked: a zip stays the file that came, and a photo is read out of it when its turn has come. So what is in
it is refused by what its directory says, before a byte of it is inflated, and a photo inflates to what the directory
said at most (docs/decisions/191).
"""

from __future__ import annotations

import io
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from cameo.errors import PhotoError, PhotoTooLarge, RequestError
from cameo.images import PHOTO_SUFFIXES
from cameo.jobs.job import JobOptions
from cameo.memory.amounts import MIB

_HEADS: Final = (b"PK\x03\x04", b"PK\x05\x06")  # of a zip, and of an empty one
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LONGEST: Final = 255  # bytes of one part of a name, on most file systems
_DEEPEST: Final = 32
_ENTRY: Final = 512  # bytes in the directory for one file: 46, its name, and what else packers note
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)
"""What zipfile raises at zips that are none (encrypted entries are a RuntimeError)."""
_CHUNK: Final = 2**18
_FORBIDDEN: Final = frozenset('\\:*?"<>|')


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does."""
    with path.open("rb") as file:
        return file.read(4) in _HEADS


def check_name(name: str) -> None:
    """Refuse a name that would lead out of the folder that results are unpacked into, or cannot be a file's there.

    Raises:
        RequestError: it is one.
    """
    parts = name.split("/")
    odd = any(c in _FORBIDDEN or unicodedata.category(c) in ("Cc", "Cs") for c in name)
    if odd or any(part in ("", ".", "..") or len(part.encode()) > _LONGEST for part in parts) or len(parts) > _DEEPEST:
        raise RequestError(f"the name {name!r:.80} is no photo's below a folder, expected such as a/b.jpg: rename it")


def members_of(path: Path, what: str, limits: JobOptions) -> tuple[list[str], list[str]]:
    """The names of the photos in the zip that was sent as `what`, and of what else is in it and not hidden.

    Raises:
        RequestError: it cannot be read, has too many files, encrypted ones or names that lead elsewhere.
        PhotoTooLarge: a photo in it is larger than one may be.
    """
    with _opened(path, what, limits) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
    photos, others = list[str](), list[str]()
    for member in members:
        check_name(member.filename)
        name = PurePosixPath(member.filename)
        if any(part[0] == "." or part == "__MACOSX" for part in name.parts):
            continue
        if name.suffix.lower() in PHOTO_SUFFIXES:
            _check(member, what, limits)
            photos.append(member.filename)
        else:
            others.append(member.filename)
    if not photos:
        raise RequestError(f"{what} holds no photos, expected files of {', '.join(sorted(PHOTO_SUFFIXES))}")
    return photos, others


def photo_in(path: Path, name: str, limits: JobOptions) -> bytes:
    """One photo out of a zip.

    Raises:
        PhotoError: it is damaged there.
    """
    try:
        with _opened(path, path.name, limits) as archive, archive.open(name) as file:
            # As much as the directory says: without an amount all is inflated, whatever the directory says.
            return file.read(archive.getinfo(name).file_size)
    except (*_DAMAGE, RequestError) as error:
        raise PhotoError(f"{name} is damaged in the zip ({error}): pack it again") from None


def zipped(files: Iterable[tuple[str, Path | bytes]]) -> Iterator[bytes]:
    """A zip of files by their names, piece by piece; pictures are as small as they get, so they are only stored."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            source = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            with source, archive.open(zipfile.ZipInfo(name, time.localtime()[:6]), "w") as entry:
                while piece := source.read(_CHUNK):
                    entry.write(piece)
                    yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A stream that can only be written to; what was written is taken out again."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class _Bounded(io.FileIO):
    """A file of which one read brings `most` bytes: zipfile reads a directory at once, however large it says it is."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most:
            raise zipfile.BadZipFile(f"its directory has {size} bytes")
        return super().read(size)


@contextmanager
def _opened(path: Path, what: str, limits: JobOptions) -> Iterator[zipfile.ZipFile]:
    """A zip whose directory is not larger than so many photos need."""
    with _Bounded(path) as file:
        file.most = max(limits.max_photos * _ENTRY, _CHUNK)
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise RequestError(
                f"{what} is no zip that can be read ({error}), expected a whole one of at most {limits.max_photos} "
                "photos: pack and send it again"
            ) from None
        file.most = limits.max_photo_mib * MIB
        with archive:
            yield archive


def _check(photo: zipfile.ZipInfo, what: str, limits: JobOptions) -> None:
    where = f"{photo.filename!r:.80} in {what}"
    if photo.flag_bits & 1:
        raise RequestError(f"{where} is encrypted: pack it without a password")
    if photo.compress_type not in _METHODS:
        raise RequestError(f"{where} is compressed by method {photo.compress_type}, expected 0 or 8: pack it as usual")
    if max(photo.file_size, photo.compress_size) > limits.max_photo_mib * MIB:
        size = max(photo.file_size, photo.compress_size) / MIB
        raise PhotoTooLarge(f"{where} has {size:.0f} MiB, expected at most {limits.max_photo_mib}: shrink it")
