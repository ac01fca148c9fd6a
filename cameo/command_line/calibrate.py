"""`cameo calibrate DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure the memory that engines take here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("bundle", type=Path)


def run(parsed: argparse.Namespace) -> int:
    """Measure every engine that can run here, and say where the figures are."""
    from cameo.bundle import Bundle
    from cameo.memory.measuring import calibrate

    print(f"wrote {calibrate(Bundle(parsed.bundle), print)}")
    return 0
