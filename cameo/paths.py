"""Paths for libraries written in C++."""

from __future__ import annotations

import os
from pathlib import Path

from cameo.errors import CameoError


def as_utf8(path: Path) -> str:
    """`path` as such libraries take it, whatever the locale: its bytes read as UTF-8.

    In the C locale Python holds bytes that it cannot read as characters of their own, which no library takes for text.

    Raises:
        CameoError: the bytes are not UTF-8.
    """
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError as error:
        name = os.fsencode(path).decode(errors="backslashreplace")
        raise CameoError(f"{name} has a name that is not UTF-8, which engines cannot open: rename it") from error
