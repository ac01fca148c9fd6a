"""What a batch has done: a line of JSON for each result, written when the result lies whole at its place.

A line that a kill tore off is no line, and its photo runs again. A result counts as done while it has the size that it
was written with, and was made of the same photo by the same bundle with the same options (`run`). A photo is the same
while its size and time are, or else its content.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from cameo.artifact import sha256_of
from cameo.errors import OutputError

NAME: Final = ".cameo-batch.jsonl"
_PART: Final = ".*.part"


@dataclass(frozen=True)
class Entry:
    """One result that was written; `photo` is its name in the batch, `result` the path below the output folder."""

    run: str
    photo: str
    photo_bytes: int
    photo_time_ns: int
    photo_sha256: str
    result: str
    result_bytes: int
    faces: int
    seconds: float
    note: str


class Journal:
    """The journal of the output folder `folder`; `run` is the hash of bundle and options."""

    def __init__(self, folder: Path, run: str, file: IO[str], known: Mapping[str, Entry]) -> None:
        self.run = run
        self._folder, self._file, self._known = folder, file, known
        self._writing = threading.Lock()

    def done(self, photo: Path, name: str, result: Path) -> Entry | None:
        """The entry of a photo whose result is there already; None where it must run."""
        entry = self._known.get(name)
        if entry is None or entry.run != self.run or self._folder / entry.result != result:
            return None
        try:
            if result.stat().st_size != entry.result_bytes:
                return None
            now = photo.stat()
            if (now.st_size, now.st_mtime_ns) == (entry.photo_bytes, entry.photo_time_ns):
                return entry
            return entry if sha256_of(photo) == entry.photo_sha256 else None
        except OSError:
            return None

    def note(self, entry: Entry) -> None:
        """Write down a result that lies at its place; from any thread."""
        with self._writing:
            self._file.write(json.dumps(asdict(entry)) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def journal(folder: Path, run: str) -> Iterator[Journal]:
    """The journal of a folder, which no other batch can have meanwhile; what a kill left half-written is removed.

    Raises:
        OutputError: the folder cannot be written to, or another batch writes to it.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose another folder with -o") from error
    with file:
        _lock(file, folder)
        for part in folder.rglob(_PART):
            part.unlink(missing_ok=True)
        known = _entries(file)
        yield Journal(folder, run, file, known)


def _lock(file: IO[str], folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two batches at once are not told apart there
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OutputError(f"another cameo batch writes to {folder}: wait for it, or choose another folder") from None


def _entries(file: IO[str]) -> dict[str, Entry]:
    """The latest entry of every photo; the file ends in a whole line afterwards."""
    file.seek(0)
    text = file.read()
    if text and not text.endswith("\n"):
        file.write("\n")
    entries = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError):  # a torn line, or one of another version
            entry = Entry(**_object(line))
            entries[entry.photo] = entry
    return entries


def _object(line: str) -> dict[str, Any]:
    content = json.loads(line)
    if not isinstance(content, dict):
        raise TypeError
    return content
