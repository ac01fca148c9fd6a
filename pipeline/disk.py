"""Says that a disk is full, whoever noticed it: Python, or a library that tells it in its own words, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

_NO_SPACE = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the largest size of files was reached (ulimit -f)",
}
_LEAST_BYTES = 2**16
"""A disk with less is full: a library that found no room may have left some, or a log have taken the last."""


def why_no_space(error: BaseException) -> str | None:
    """What kept a file from being written; None if `error` tells of no want of space."""
    for cause in _causes(error):
        for code, reason in _NO_SPACE.items():
            if (isinstance(cause, OSError) and cause.errno == code) or os.strerror(code) in str(cause):
                return reason
    return None


def full_disk(folder: Path) -> str | None:
    """That the disk of `folder`, or the one of temporary files, is full; None if neither is."""
    temporary = Path(os.environ.get("TMPDIR", "/tmp"))  # tempfile.gettempdir() writes there to find out, and raises
    for place in filter(Path.is_dir, (folder, temporary)):
        state = os.statvfs(place)
        if state.f_blocks and state.f_bavail * state.f_frsize < _LEAST_BYTES:
            return f"no space left on the disk of {place}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
