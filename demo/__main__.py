"""`make demo`: a photo becomes a cartoon, a poor photo a better one; both from checkpoint to evidence.

A second run finds everything done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

import cameo
from cameo.errors import CameoError, GateError
from cameo.faces.alignment import crop, similarity_in_crop_frame, square_template
from cameo.faces.face import Face
from cameo.faces.restoring import ZOOM
from cameo.images import Pixels, read_photo, write_image
from demo.poor_photo import DEMO, impoverish
from exporters import model
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.utf8 import in_utf8
from pipeline.validation import Limits, validate_bundle

HERE = Path(__file__).parent
PHOTO = HERE / "photo.jpg"
VIEW_SIDE = 512  # pixels of the pictures of a face

console = Console(highlight=False, soft_wrap=True)

Paint = Callable[[Pixels, cameo.Loaded], dict[str, Pixels]]


@dataclass(frozen=True)
class Demo:
    """A model with demo weights, and the pictures, by file name, that `paint` makes of a good photo with its bundle."""

    model: str
    weights: Path
    bundle: Path
    paint: Paint
    pictures: tuple[str, ...]
    result: str
    compared: str = ""
    """The picture among them that validation runs on, instead of the good photo."""

    @property
    def photo(self) -> Path:
        """What validation compares the bundle with its original on, and the report shows."""
        return self.bundle / self.compared if self.compared else PHOTO


def paint_cartoon(photo: Pixels, cartoonize: cameo.Loaded) -> dict[str, Pixels]:
    """The cartoon, and the photo beside it."""
    cartoon = cartoonize.run(photo).image
    return {"cartoon.png": cartoon, "photo-and-cartoon.png": np.hstack([photo, cartoon])}


def restore_poor(photo: Pixels, restore: cameo.Loaded) -> dict[str, Pixels]:
    """The photo made poor, what GPEN restores of that, and the face in both and in the good photo side by side."""
    poor = impoverish(photo, DEMO, np.random.default_rng(0))
    outcome = restore.run(poor)
    faces = np.hstack([_face_view(image, outcome.faces[0]) for image in (poor, outcome.image, photo)])
    return {"poor.png": poor, "restored.png": outcome.image, "poor-restored-true.png": faces}


DEMOS = (
    Demo(
        "dctnet",
        HERE,
        Path("build/demo"),
        paint_cartoon,
        ("photo-and-cartoon.png", "cartoon.png"),
        result="cartoon.png",
    ),
    Demo(
        "gpen-bfr-512",
        HERE / "gpen",
        Path("build/demo-gpen"),
        restore_poor,
        ("poor-restored-true.png", "poor.png", "restored.png"),
        result="restored.png",
        compared="poor.png",
    ),
)


def main() -> None:
    """Build, validate and run the bundle of every demo."""
    parser = argparse.ArgumentParser(prog="demo", description="From checkpoint to evidence, with the demo's weights.")
    parser.add_argument(
        "--rounds", type=int, default=0, choices=range(1, 51), metavar="N", help="of timing (default: as validate does)"
    )
    limits = Limits(keep=True, rounds=parser.parse_args().rounds)
    for demo in DEMOS:
        console.rule(demo.model, align="left")
        _show(demo, limits)


def _show(demo: Demo, limits: Limits) -> None:
    changed = build(model(demo.model), demo.weights, demo.bundle, BuildOptions(), console.print)
    # A rebuilt bundle replaces its whole folder, so what lies in it belongs to it.
    done = not changed and all((demo.bundle / name).exists() for name in ("report.json", *demo.pictures))
    if done:
        console.print("nothing to do: the bundle, its report and its pictures are up to date")
    else:
        _paint(demo)
        report = validate_bundle(demo.bundle, demo.weights, demo.photo, console.print, limits=limits)
        if report.failures:
            raise GateError("; ".join(map(str, report.failures)))
        console.print(f"every gate passed, {report.judged} judged")
    console.print(f"\n  report    {demo.bundle / 'report.html'}")
    console.print(f"  pictures  {', '.join(str(demo.bundle / name) for name in demo.pictures)}")
    console.print(f"  try       .venv/bin/cameo run {demo.bundle} YOUR_PHOTO.jpg -o {demo.result}\n")


def _paint(demo: Demo) -> None:
    with cameo.load(demo.bundle) as loaded:
        pictures = demo.paint(read_photo(PHOTO), loaded)
        console.print(loaded.describe())
    for name, picture in pictures.items():
        write_image(demo.bundle / name, picture)


def _face_view(photo: Pixels, face: Face) -> Pixels:
    """The face upright with what is around it, uint8 `(512, 512, 3)` RGB."""
    to_view = similarity_in_crop_frame(face.five_points, square_template(VIEW_SIDE, ZOOM))
    return crop(photo, to_view, VIEW_SIDE)


if __name__ == "__main__":
    in_utf8()
    try:
        main()
    except CameoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
