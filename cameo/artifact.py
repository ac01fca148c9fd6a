"""A file or folder with its hash: what stages read and write, and what bundles list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artifact:
    """A file (or a folder, for engines of several files) that a stage read or wrote."""

    path: Path
    format: str
    sha256: str
    files: tuple[str, ...] = ()
    """Those of a folder that matter, where not all do."""

    @property
    def name(self) -> str:
        """The file's name, or the files'."""
        return " and ".join(self.files) or self.path.name

    @classmethod
    def of(cls, path: Path, format: str = "") -> Artifact:
        """The artifact at `path`, hashed now; `format` defaults to the suffix, or the name where there is none."""
        return cls(path, format or path.suffix.lstrip(".") or path.name, sha256_of(path))

    @classmethod
    def of_files(cls, folder: Path, names: Sequence[str]) -> Artifact:
        """A folder, of which only the files with these names matter: the hash is over them."""
        return cls(folder, "files", _sha256_of_members({name: folder / name for name in names}), tuple(names))


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, or of a folder: the hash over its sorted relative names and their hashes."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    members = sorted(p for p in path.rglob("*") if p.is_file())
    return _sha256_of_members({member.relative_to(path).as_posix(): member for member in members})


def _sha256_of_members(members: Mapping[str, Path]) -> str:
    whole = hashlib.sha256()
    for name, member in members.items():
        whole.update(f"{name}\0{sha256_of(member)}\n".encode())
    return whole.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size
