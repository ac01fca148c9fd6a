"""Which photos conversions are calibrated on: a folder's, or those that ship with the demo."""

from __future__ import annotations

from pathlib import Path

from cameo.errors import PhotoError
from pipeline.validation import PHOTO_SUFFIXES

DEMO = Path(__file__).resolve().parents[1] / "demo"


def calibration_photos(place: Path | None) -> tuple[Path, ...]:
    """The photos of the folder `place` (or the one photo that it names), sorted; None stands for the demo's.

    Raises:
        PhotoError: there are none.
    """
    folder = place or DEMO
    if folder.is_file():
        return (folder,)
    if not folder.is_dir():
        raise PhotoError(f"there is no photo or folder {folder}: check --calibration")
    found = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES))
    if not found:
        raise PhotoError(f"{folder} holds no photos ({', '.join(sorted(PHOTO_SUFFIXES))}): name another --calibration")
    return found
