"""What a command says of options is said in flags."""

from __future__ import annotations

import argparse

from cameo.command_line._flags import OPTION


def in_flags(said: str, parsed: argparse.Namespace) -> str:
    """`said` with the flags of the options that it names, where the command has them."""
    from cameo.declaring import flagged

    return flagged(said, {key.removeprefix(OPTION) for key in vars(parsed)})
