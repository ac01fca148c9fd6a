"""Which photos conversions are calibrated on: a folder's, or those that ship with the demo."""

from __future__ import annotations

from pathlib import Path

from cameo.images import photos_in

DEMO = Path(__file__).resolve().parents[1] / "demo"


def calibration_photos(place: Path | None) -> tuple[Path, ...]:
    """The photos of the folder `place` (or the one photo that it names), sorted; None stands for the demo's.

    Raises:
        PhotoError: there are none.
    """
    folder = place or DEMO
    return (folder,) if folder.is_file() else tuple(photos_in(folder))
