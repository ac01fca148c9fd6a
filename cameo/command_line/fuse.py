"""`cameo fuse TEMPLATE... FACE -o OUT`: one face into one or several templates (docs/decisions/155)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from cameo.command_line import _making, _model
from cameo.errors import BundleError, RequestError

HELP = "a face into one or several templates"
TAKES: Final = ("template", "face")
BUNDLE: Final = Path("build/face-fusion")
"""What `make engines MODEL=face-fusion` writes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument(
        "templates", type=Path, nargs="+", metavar="TEMPLATE", help="photos that the face goes into, or folders"
    )
    parser.add_argument("face", type=Path, metavar="FACE", help="the photo of the face, the last one")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help=f"a bundle's folder (default: {BUNDLE})")
    _making.add_arguments(parser, concerns=lambda module: module.TAKES == TAKES)


def run(parsed: argparse.Namespace) -> int:
    """Write a picture for every template.

    Raises:
        BundleError: none is named, and none is where builds put it.
        RequestError: a bundle is named as a photo, or its model takes other photos.
    """
    from cameo.bundle import MANIFEST_NAME

    for path in (*parsed.templates, parsed.face):
        if (path / MANIFEST_NAME).is_file():
            raise RequestError(
                f"{path} is a bundle, expected a photo or a folder of photos: name it by --bundle {path}"
            )
    if parsed.bundle == BUNDLE and not BUNDLE.exists():
        raise BundleError(
            f"no bundle is named, and there is none in {BUNDLE}, where `make engines MODEL=face-fusion WEIGHTS=folder` "
            "puts it: name one with --bundle"
        )
    module = _model.flow_of(parsed.bundle)
    if module.TAKES != TAKES:
        found = f"{parsed.bundle} is of {module.Options.OF}, which takes {' and '.join(module.TAKES)}"
        raise RequestError(f"{found}, expected one that takes {' and '.join(TAKES)}: name another with --bundle")
    return _making.make(parsed, module, parsed.templates, {TAKES[1]: parsed.face})
