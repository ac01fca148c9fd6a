"""`cameo doctor`."""

from __future__ import annotations

import argparse

from cameo.command_line import _answer

HELP = "which engines can run here, and why others cannot"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its argument."""
    _answer.add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print what can run on this machine."""
    from cameo.doctor import Doctor

    _answer.show(Doctor(), parsed)
    return 0
