"""`cameo plan DIR --gpu NAME`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cameo.command_line import _answer, _flags

HELP = "will it fit, and how large a batch does"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("bundle", type=Path)
    memory = parser.add_mutually_exclusive_group(required=True)
    memory.add_argument("--gpu", default="", help="a GPU by name (rtx3060)")
    memory.add_argument("--vram", type=_flags.count, default=0, help="GPU memory in MiB")
    parser.add_argument(
        "--size", type=_flags.count, default=1024, help="side in pixels of the square that networks see (default: 1024)"
    )
    parser.add_argument("--batch", type=int, default=1, help="photos at once (default: 1)")
    _answer.add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print the memory that each engine needs; 1 where nothing fits."""
    from cameo.bundle import Bundle
    from cameo.plan import plan
    from cameo.planned import Wish

    planned = plan(Bundle(parsed.bundle), Wish(parsed.gpu, parsed.vram, parsed.size, parsed.batch))
    _answer.show(planned, parsed)
    return 0 if planned.fits else 1
