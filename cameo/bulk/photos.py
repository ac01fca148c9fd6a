"""Which photos a batch has, and where each result goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from cameo.counting import count_of
from cameo.errors import OutputError, PhotoError, RequestError
from cameo.images import FORMATS, PHOTO_SUFFIXES, check_folder, origin_of
from cameo.images.files import open_image

STANDARD: Final = Path("-")
"""Standard input as a photo, standard output as a result."""
_WINDOW: Final = 256  # photos whose headers are looked at before one runs: a tenth of a second
_FORBIDDEN: Final = set('/\\:*?"<>|\0')


@dataclass(frozen=True)
class Job:
    """One photo, its `name` below the folder that it was found in, and where its result goes."""

    photo: Path
    name: str
    result: Path


@dataclass(frozen=True)
class Naming:
    """Results are called like their photo, with `suffix` behind the stem, as `format` ("png", "jpg", "webp").

    Raises:
        RequestError: the format cannot be written, or the suffix cannot be part of a file's name.
    """

    format: str = "png"
    suffix: str = ""

    def __post_init__(self) -> None:
        if f".{self.format}" not in FORMATS:
            known = ", ".join(name.removeprefix(".") for name in FORMATS)
            raise RequestError(f"--format is {self.format!r:.40}, expected one of {known}.")
        if set(self.suffix) & _FORBIDDEN:
            raise RequestError(f"--suffix is {self.suffix!r:.40}, expected what can be part of a file's name.")


def jobs_of(sources: Sequence[Path], out: Path, naming: Naming, pictures: Iterable[Path] = ()) -> list[Job]:
    """The jobs of files and of folders, searched with all that is below them but for `out`; in the order of names.

    Where `out` is one of these folders, what lies there as the result of another photo, by its suffix, or was made by
    Cameo, by its XMP, is none. Two photos that differ only in their endings keep them in the results' names: a.jpg.png
    and a.png.png. `pictures` are read besides.

    Raises:
        PhotoError: a source is not there, or there is no photo in any of them.
        OutputError: a result would be written over a photo, two to one file, or to where none can be, or where it
            would be taken for a photo the next time.
    """
    found = list(dict.fromkeys(_found(sources, out)))
    if among := [source for source in sources if source.is_dir() and source.resolve() == out.resolve()]:
        if not naming.suffix:
            raise OutputError(
                f"results would lie among the photos of {among[0]}, and be taken for photos the next time: choose "
                "another folder with -o, or a --suffix"
            )
        found = [one for one in _without_results(found, out, naming) if not _made_by_us(one[0])]
        if not found:
            raise PhotoError(
                f"{among[0]} holds no photos but pictures that Cameo made, and results go there: choose another folder "
                "with -o"
            )
    if not found:
        named = ", ".join(map(str, sources))
        raise PhotoError(
            f"{named} holds no photos, expected files of {', '.join(sorted(PHOTO_SUFFIXES))}: name another folder"
        )
    results = result_names([name for _, name in found], naming)
    jobs = [Job(photo, name, out / result) for (photo, name), result in zip(found, results, strict=True)]
    check_apart(jobs, pictures)
    for folder in dict.fromkeys(job.result.parent for job in jobs):
        check_folder(folder)
    return jobs


def left_out(sources: Iterable[Path], out: Path, jobs: Sequence[Job]) -> str:
    """A sentence where photos lie in an output folder among the sources that are neither run nor results, or ""."""
    taken = {path.resolve() for job in jobs for path in (job.photo, job.result)}
    among = any(out.resolve().is_relative_to(source.resolve()) for source in sources)
    others = [path for path in _below(out, Path()) if path.resolve() not in taken] if among else []
    if not others:
        return ""
    found = f"{count_of(len(others), 'photo')} in {out}"
    return f"{found}, where results go, {'is' if len(others) == 1 else 'are'} left out, such as {others[0]}"


def _without_results(found: Sequence[tuple[Path, str]], out: Path, naming: Naming) -> list[tuple[Path, str]]:
    results = {(out / result).resolve() for result in result_names([name for _, name in found], naming)}
    return [(photo, name) for photo, name in found if photo.resolve() not in results]


def _made_by_us(photo: Path) -> bool:
    from cameo.provenance.record import TOOL

    try:
        return origin_of(photo)[0].tool.split(" ")[0] == TOOL.split(" ")[0]  # of whatever version
    except PhotoError:  # it is said when its turn has come
        return False


def result_names(names: Sequence[str], naming: Naming) -> list[str]:
    """What the results of photos with these names are called; two that differ only in their endings keep them."""
    plain = [_renamed(name, naming, keep=False) for name in names]
    several = Counter(map(str.casefold, plain))  # as file systems see it that do not tell cases apart
    return [
        _renamed(name, naming, keep=True) if several[result.casefold()] > 1 else result
        for name, result in zip(names, plain, strict=True)
    ]


def of_like_sizes(jobs: Iterable[Job]) -> Iterator[Job]:
    """The jobs, some hundreds at a time in the order of their photos' sizes.

    An engine that compiles for a shape does so less often (docs/decisions/169).
    """
    rest = iter(jobs)
    while some := list(islice(rest, _WINDOW)):
        yield from sorted(some, key=_size)


def _size(job: Job) -> tuple[int, int]:
    """Width and height by the file's header; what cannot be read comes first, and says why when it is read."""
    try:
        with job.photo.open("rb") as file, open_image(file, job.name) as image:
            return image.size
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError and more on damage
        return (0, 0)


def _found(sources: Iterable[Path], out: Path) -> Iterator[tuple[Path, str]]:
    for source in sources:
        if source == STANDARD:
            yield source, "stdin"
        elif source.is_dir():
            for photo in _below(source, out.resolve()):
                yield photo, photo.relative_to(source).as_posix()
        elif source.exists():
            yield source, source.name
        else:
            raise PhotoError(f"{source} does not exist, expected a photo or a folder of photos: check the path.")


def _below(folder: Path, out: Path) -> Iterator[Path]:
    """Photos by their names, without those in hidden folders and in `out`; links to folders are not followed."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f[0] != "." and Path(where, f).resolve() != out)
        for file in sorted(files):
            if file[0] != "." and Path(file).suffix.lower() in PHOTO_SUFFIXES:
                yield Path(where, file)


def _renamed(name: str, naming: Naming, keep: bool) -> str:
    path = Path(name)
    stem = path.name if keep else path.stem
    return str(path.with_name(f"{stem}{naming.suffix}.{naming.format}"))


def check_apart(jobs: Sequence[Job], pictures: Iterable[Path] = ()) -> None:
    """Raises OutputError where a result would be written over a photo or one of `pictures`, or two to one file."""
    photos = {path.resolve() for path in (*(job.photo for job in jobs), *pictures) if path != STANDARD}
    results: dict[Path, Job] = {}
    for job in jobs:
        if job.result != STANDARD and job.result.resolve() in photos:
            raise OutputError(
                f"the result of {job.photo} would overwrite the photo {job.result}: choose another place with -o, or a "
                "--suffix"
            )
        other = results.setdefault(job.result, job)
        if other is not job:
            raise OutputError(f"{other.photo} and {job.photo} would both be written to {job.result}: run them apart")
