"""`cameo info DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cameo.command_line import _answer

HELP = "what a bundle holds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("bundle", type=Path)
    _answer.add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print what it holds, what of it runs here, and its options."""
    from cameo.bundle import Bundle
    from cameo.info import Info

    _answer.show(Info(Bundle(parsed.bundle)), parsed)
    return 0
