"""`cameo run DIR PHOTO... -o OUT`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cameo.command_line import _making, _model
from cameo.errors import RequestError

HELP = "photos in, pictures out, each as it is asked for; batch is for thousands"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument(
        "photos",
        type=Path,
        nargs="+",
        help="photos (JPEG, PNG, WebP, TIFF, ...), folders with all below them, or - for standard input",
    )
    _making.add_arguments(parser)


def run(parsed: argparse.Namespace) -> int:
    """Write the picture of every photo; of all together where the model takes several.

    Raises:
        RequestError: the model takes more or fewer.
    """
    module, photos = _model.flow_of(parsed.bundle), parsed.photos
    takes = module.TAKES
    if len(takes) == 1:
        return _making.make(parsed, module, photos, {})
    if len(photos) != len(takes):
        named = "1 photo was" if len(photos) == 1 else f"{len(photos)} photos were"
        raise RequestError(f"{named} named, expected {len(takes)}: {', '.join(takes)}, in this order")
    return _making.make(parsed, module, photos[:1], dict(zip(takes[1:], photos[1:], strict=True)))
