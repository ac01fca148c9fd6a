"""The network of a bundle that enlarges photos, for the flows that can use one: RealESRNet, in tiles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from cameo.declaring import option
from cameo.errors import PhotoTooLarge
from cameo.flows import Progress
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.tiles import FOLD, MIN_TILE, Enlarger

ENLARGER: Final = "realesrnet-x"
NO_ENLARGER: Final = (
    "The bundle has no network realesrnet-x1, -x2 or -x4, expected one for the option `sr`: build it with its "
    "weights, or leave out `sr`."
)


def tile_option() -> Any:
    """The field of `Options` that says how large tiles are."""
    return option(256, "side of the tiles of `sr`, or none", least=MIN_TILE, step=FOLD, none="none", needs=ENLARGER)


def only(networks: Collection[str], start: str) -> str | None:
    """The name of the network that begins so and ends in a number, if there is one."""
    return next((name for name in networks if name.startswith(start) and name.removeprefix(start).isdigit()), None)


def enlarger_of(sessions: Mapping[str, Session], tile: int | None) -> Enlarger | None:
    """What enlarges photos by the network of a bundle, if it has one."""
    name = only(sessions, ENLARGER)
    return Enlarger(sessions[name], int(name.removeprefix(ENLARGER)), tile) if name else None


def enlarged(photo: Pixels, enlarger: Enlarger, max_pixels: int, progress: Progress | None = None) -> Pixels:
    """The photo, uint8 `(H, W, 3)`, `enlarger.scale` times as large; `progress(done, tiles)`.

    Raises:
        PhotoTooLarge: that would be more than `max_pixels`.
    """
    height, width = (side * enlarger.scale for side in photo.shape[:2])
    if height * width > max_pixels:
        raise PhotoTooLarge(
            f"Enlarged, the photo would be {width}x{height}, {height * width:,} pixels, expected at most "
            f"{max_pixels:,}: shrink it, or leave out `sr`."
        )
    return enlarger(photo, progress)
