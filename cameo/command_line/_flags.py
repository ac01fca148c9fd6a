"""Flags that commands share: of the engine, of the model, of the pictures that are written."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cameo.declaring import Declaration
    from cameo.flows import FlowModule

OPTION = "option "
"""What the names of a flow's options begin with in parsed arguments."""


def count(text: str) -> int:
    """The number of at least 1 that an argument is."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def place(text: str) -> str:
    """Where results go; nothing is no place, as where a script's variable is not set."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, expected a file or a folder")
    return text


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Flags of the engine."""
    from cameo.backends import DEVICES
    from cameo.modes import MODES

    parser.add_argument("--engine", default="", help="engine to use (default: the best that runs here)")
    parser.add_argument(
        "--mode", default="", choices=MODES, help="what may be given up (default: quality, nothing that shows)"
    )
    parser.add_argument("--precision", default="", help="precision to use (fp32, bf16, fp16, int8)")
    parser.add_argument("--device", default="", choices=DEVICES, help="default: the engine's own choice")
    parser.add_argument("--threads", type=count, default=0, help="CPU threads (default: all)")
    parser.add_argument("--memory", default="", help="budget, such as 4GiB (default: 0.8 of what is free)")
    parser.add_argument(
        "--low-memory", action="store_true", help="load networks in turn: the memory of the largest, slower"
    )


def add_writing(parser: argparse.ArgumentParser) -> None:
    """Flags of the pictures that a command reads and writes (--no-metadata: docs/decisions/156)."""
    parser.add_argument(
        "--no-metadata",
        action="store_true",
        help="leave date, camera and copyright out of the picture; how it came about stays in",
    )
    parser.add_argument("--allow-truncated", action="store_true", help="take photos whose files end early")
    parser.add_argument(
        "--consent",
        action="store_true",
        help="those who are shown agree; a model that needs it wants this once, and it is remembered",
    )
    parser.add_argument("--format", default="", help="of results in a folder: png, jpg or webp (default: png)")
    parser.add_argument("--suffix", default="", help="put behind the name of every result: --suffix=-new")
    parser.add_argument("--side-by-side", action="store_true", help="put the photo to the left of its result")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_signing(parser: argparse.ArgumentParser) -> None:
    """The flag that signs pictures."""
    parser.add_argument(
        "--c2pa",
        type=Path,
        nargs=2,
        metavar=("KEY", "CERT"),
        help="sign pictures by C2PA with a private key and its certificate chain, both PEM (extra: provenance)",
    )


def add_options(
    parser: argparse.ArgumentParser, pictures: bool = True, concerns: Callable[[FlowModule], bool] = lambda _: True
) -> None:
    """A flag for every option that any flow declares which `concerns` the command; the model's own refuses the others.

    Without `pictures`, those are left out that are pictures: they belong to one photo.
    """
    from cameo.declaring import PHOTO, declarations, flagged
    from cameo.flows import flow_module, flow_names

    modules = {name: module for name in flow_names() if concerns(module := flow_module(name))}
    found: dict[str, list[tuple[str, Declaration]]] = {}
    for name, module in modules.items():
        for declared in (*declarations(module.Options), *declarations(module.Request)):
            if pictures or declared.kind is not PHOTO:
                found.setdefault(declared.flag, []).append((name, declared))
    group, names = parser.add_argument_group("options of the model"), {said[0][1].name for said in found.values()}
    for flag, said in sorted(found.items()):
        meanings: dict[str, list[str]] = {}
        for name, declared in said:
            meanings.setdefault(declared.help, []).append(name)
        whose = {help: f"{', '.join(of)}: " if len(of) < len(modules) else "" for help, of in meanings.items()}
        words = flagged("; ".join(whose[help] + help for help in meanings), names).replace("%", "%%")
        first = said[0][1]
        if first.is_switch:
            group.add_argument(flag, dest=OPTION + first.name, action="store_const", const="yes", help=words)
        else:
            shown = first.none if first.default is None else first.default
            usual = f" (default: {shown})" if shown not in ("", None) else ""
            value = "|".join(first.choices) or first.name.upper()
            group.add_argument(flag, dest=OPTION + first.name, metavar=value, help=words + usual)
