"""`cameo verify FILE`: exit code 0 where the file says how it came about, and all of that was checked and is right."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "what a picture's file says about how it came about, and whether that holds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("file", type=Path, help="a picture")


def run(parsed: argparse.Namespace) -> int:
    """Print what its XMP and its C2PA manifest say."""
    from cameo.provenance.reading import findings

    found = findings(parsed.file)
    print(found)
    return 0 if found.holds else 1
