"""What the locale must not decide: which files can be opened, and whether a sentence can be printed.

In the C locale (and with any name whose bytes are not text there) Python holds such bytes as characters of their own,
which no library in C++ takes for text, and has no bytes for others, such as ×.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

from cameo.errors import CameoError


def as_utf8(path: Path) -> str:
    """`path` as libraries in C++ take it: its bytes read as UTF-8.

    Raises:
        CameoError: the bytes are not UTF-8.
    """
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError as error:
        name = os.fsencode(path).decode(errors="backslashreplace")
        raise CameoError(f"{name} has a name that is not UTF-8, which engines cannot open: rename it") from error


def print_anything() -> None:
    r"""From now on names of files are printed as they are, what the terminal has no bytes for as an escape (\xd7)."""
    codecs.register_error(__name__, _bytes_or_escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=__name__)


def _bytes_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
