"""The workshop's commands know names of files in any locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PROGRAM = "import sys; from pipeline.utf8 import in_utf8; in_utf8(); print(ascii(sys.argv[1]), sys.flags.utf8_mode)"


def test_names_are_utf8_in_the_c_locale() -> None:
    command = [sys.executable, "-c", PROGRAM, "porträt"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **C_LOCALE}, capture_output=True, check=False)
    assert done.stdout == b"'portr\\xe4t' 1\n", done.stderr
