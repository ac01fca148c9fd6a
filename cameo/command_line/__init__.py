"""The commands of `cameo`: one file each, found by its name. Files that begin with an underscore are shared.

HELP: str                       one line for `cameo --help`
add_arguments(parser)           its arguments, besides --debug
run(parsed) -> int              does it; the exit code
"""

from __future__ import annotations

import argparse
import sys
from typing import Protocol, cast

from cameo.discovery import module_in, names_in


class Command(Protocol):
    """What the module of a command offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, parsed: argparse.Namespace) -> int: ...


def command_names() -> list[str]:
    """The commands that there are, sorted."""
    return names_in(sys.modules[__name__])


def command(name: str) -> Command:
    """The module of one of `command_names`."""
    return cast(Command, module_in(sys.modules[__name__], name))
