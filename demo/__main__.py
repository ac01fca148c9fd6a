"""`make demo`: from frozen graphs to a served cartoon, with the evidence. A second run finds everything done."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import cameo
from cameo.errors import CameoError, GateError
from cameo.images import read_photo, write_image
from pipeline.build import BuildOptions, build
from pipeline.recipe import model
from pipeline.validation import validate_bundle

HERE = Path(__file__).parent
BUNDLE = Path("build/demo")
PHOTO = HERE / "photo.jpg"
CARTOON = BUNDLE / "cartoon.png"
BESIDE = BUNDLE / "photo-and-cartoon.png"

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Build, validate and run the demo bundle."""
    changed = build(model("dctnet"), HERE, BUNDLE, BuildOptions(), console.print)
    # A rebuilt bundle replaces its whole folder, so what lies in it belongs to it.
    done = not changed and all((BUNDLE / name).exists() for name in ("report.json", CARTOON.name, BESIDE.name))
    if done:
        console.print("nothing to do: the bundle, its report and its pictures are up to date")
    else:
        _run()
        report = validate_bundle(BUNDLE, HERE, PHOTO, console.print)
        if report.failures:
            raise GateError("; ".join(map(str, report.failures)))
        console.print("every gate passed")
    console.print(f"\n  report    {BUNDLE / 'report.html'}\n  pictures  {BESIDE}, {CARTOON}")
    console.print(f"  try       .venv/bin/cameo run {BUNDLE} YOUR_PHOTO.jpg -o cartoon.png\n")


def _run() -> None:
    photo = read_photo(PHOTO)
    with cameo.load(BUNDLE) as cartoonize:
        cartoon = np.asarray(cartoonize(photo))
        console.print(cartoonize.describe())
    write_image(CARTOON, cartoon)
    write_image(BESIDE, np.hstack([photo, cartoon]))


if __name__ == "__main__":
    try:
        main()
    except CameoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
