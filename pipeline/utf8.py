"""The workshop speaks UTF-8 whatever the locale, as its libraries in C++, its workers and its reports do."""

from __future__ import annotations

import os
import sys


def in_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, where names of files are not UTF-8 as it is."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})
