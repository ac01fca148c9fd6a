"""Where the results of `run` and `fuse` go: to one file, below a folder, or to standard output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cameo.bulk.photos import STANDARD, Job, Naming, check_apart, jobs_of
from cameo.errors import OutputError, PhotoError, RequestError
from cameo.images import check_output, check_photo


def jobs_for(parsed: argparse.Namespace, sources: Sequence[Path], pictures: Sequence[Path]) -> list[Job]:
    """A job for each photo that `sources` are or hold; `pictures` are read with each of them. All of it is checked.

    For several photos, a folder, or a name that ends in "/", -o is a folder.

    Raises:
        PhotoError: a photo or a picture is not there.
        RequestError: flags of what is written contradict each other.
        OutputError: the results have no place, or would be written over a photo.
    """
    _check_there([*sources, *pictures], sources)
    target, several = Path(parsed.out), len(sources) > 1 or sources[0].is_dir()
    if target == STANDARD:
        _check_standard_output(parsed, several)
        return [Job(sources[0], sources[0].name, STANDARD)]
    is_folder = parsed.out.endswith(("/", os.sep)) or target.is_dir()
    if several and target.suffix and not is_folder:
        raise OutputError(f"-o {parsed.out} names one picture for several photos: name a folder, or {parsed.out}/")
    if several or is_folder:
        return jobs_of(sources, target, Naming(parsed.format or "png", parsed.suffix), pictures)
    if named := [flag for flag in ("format", "suffix") if getattr(parsed, flag)]:
        raise RequestError(f"-o {parsed.out} names the result, --{named[0]} is for folders: leave out one of them")
    job = Job(sources[0], sources[0].name, target)
    check_apart([job], pictures)
    check_output(target)
    return [job]


def _check_there(photos: Sequence[Path], may_be_folders: Sequence[Path]) -> None:
    if (times := photos.count(STANDARD)) > 1:
        raise RequestError(f"- stands {times} times for a photo, standard input has one: name files")
    if times and sys.stdin.isatty():
        raise PhotoError("- is standard input, which is a terminal, expected a photo: add < photo.jpg, or name a file")
    for path in dict.fromkeys(photos):
        if path != STANDARD and not (path in may_be_folders and path.is_dir()):
            check_photo(path)


def _check_standard_output(parsed: argparse.Namespace, several: bool) -> None:
    if several:
        raise OutputError("-o - is one picture for several photos: name a folder with -o")
    for flag in ("json", "skip-existing", "suffix"):
        if getattr(parsed, flag.replace("-", "_")):
            raise RequestError(
                f"-o - sends the picture to standard output, --{flag} is for files: leave out one of them"
            )
    Naming(parsed.format or "png")
    if sys.stdout.isatty():
        raise OutputError("-o - is standard output, which is a terminal: add > result.png, or name a file with -o")
