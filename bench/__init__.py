"""`make bench`: every figure of docs/measurements, measured on this machine in one run.

    python -m bench [dctnet|gpen ...] [--out build/bench]

writes FAMILY.md, a table of target, measured value and verdict, as soon as a family is measured. Engines and originals
take turns in every comparison of speed, so that ratios hold on a noisy machine. A family is a file of `families/`:

    TITLE: str                                     its heading, with what a reader must know of the weights
    LIBRARIES: tuple[str, ...]                     the distributions that run its originals
    measure(folder: Path, say: Say) -> list[Row]   everything measured; files go to `folder`
"""
