"""Photos in, pictures out: what `run` and `fuse` share, and what of it `batch` does too (docs/decisions/202)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameo.command_line import _consent, _flags, _model
from cameo.command_line._words import in_flags
from cameo.errors import CameoError, PhotoError, RequestError

if TYPE_CHECKING:
    from cameo.bulk.making import Making
    from cameo.bulk.photos import Job
    from cameo.flows import FlowModule, Outcome
    from cameo.loading import Loaded


def add_arguments(parser: argparse.ArgumentParser, concerns: Callable[[FlowModule], bool] = lambda _: True) -> None:
    """Add the flags of `run` and `fuse`; options of the model are those of flows that `concerns` names."""
    _flags.add_loading(parser)
    parser.add_argument(
        "-o",
        "--out",
        type=_flags.place,
        required=True,
        help="the picture to write, - for standard output; a folder for several, or FOLDER/",
    )
    _flags.add_writing(parser)
    parser.add_argument("--skip-existing", action="store_true", help="leave out photos whose result is there already")
    parser.add_argument("--json", action="store_true", help="for programs: what became of each photo, as JSON")
    _flags.add_signing(parser)
    _flags.add_options(parser, concerns=concerns)


def make(parsed: argparse.Namespace, module: FlowModule, sources: Sequence[Path], others: Mapping[str, Path]) -> int:
    """Write the picture of every photo that `sources` are or hold, with `others` beside it, one after another.

    Whatever can be known beforehand is checked before a model is loaded.

    Raises:
        PhotoError: a photo is missing, or nothing can be made of it; of several, the others are done.
        RequestError: the model needs consent, or options contradict each other.
    """
    from cameo.bulk.photos import left_out
    from cameo.command_line._jobs import jobs_for

    has_consent = _consent.is_given(module, parsed.consent)
    jobs = jobs_for(parsed, sources, [*others.values(), *_model.pictures(parsed, module).values()])
    making = making_of(parsed, module, others)
    telling = _Telling(parsed, others, len(jobs))
    left = [job for job in jobs if not (parsed.skip_existing and job.result.is_file())]
    telling.kept([job for job in jobs if job not in left])
    if said := left_out(sources, Path(parsed.out), jobs):
        telling.say(said)
    try:
        if left:
            with _model.load(parsed, has_consent, parsed.allow_truncated) as model:
                telling.loaded(model)
                for job in left:
                    _make(making, model, job, telling)
    finally:
        telling.end()
    if has_consent and telling.count("done"):
        remember(module)
    if failed := telling.count("failed"):
        kept = "; the others are there already" if telling.count("kept") else ""
        rest = "; the others are done" if telling.count("done") else kept
        raise PhotoError(f"{failed} of {len(jobs)} pictures could not be made, see above{rest}")
    return 0


def making_of(parsed: argparse.Namespace, module: FlowModule, others: Mapping[str, Path]) -> Making:
    """How the command line wants pictures made.

    Raises:
        PhotoError: one of `others` cannot be read.
        RequestError: they are not those that the model takes.
        SigningError: pictures cannot be signed.
    """
    from cameo.bulk.making import Making, read, varying_of
    from cameo.images import ReadOptions

    varying, reading = varying_of(module.TAKES, others), ReadOptions(allow_truncated=parsed.allow_truncated)
    return Making(
        varying,
        {name: read(path, reading) for name, path in others.items()},
        reading,
        not parsed.no_metadata,
        _model.signer_of(parsed),
        parsed.side_by_side,
        parsed.format or "png",
    )


def remember(module: FlowModule) -> None:
    """Remember the consent that was given; say so where that cannot be."""
    if note := _consent.remember(module):
        print(note, file=sys.stderr)


def _make(making: Making, model: Loaded, job: Job, telling: _Telling) -> None:
    from cameo.progress import ProgressBar

    started = time.perf_counter()
    try:
        with ProgressBar(job.name, not telling.quiet) as progress:
            outcome = making.make(model, job, progress)
    except (PhotoError, RequestError) as error:
        telling.failed(job, error)
    else:
        telling.done(job, outcome, time.perf_counter() - started)


class _Telling:
    """Says what became of each of `all_` photos: in lines, as JSON at the end, or not at all."""

    def __init__(self, parsed: argparse.Namespace, others: Mapping[str, Path], all_: int) -> None:
        self._parsed, self._all = parsed, all_
        self._with = "".join(f" + {path}" for path in others.values())
        self._rows: list[dict[str, Any]] = []
        self._about: dict[str, Any] = {"with": {name: str(path) for name, path in others.items()}} if others else {}
        self.quiet = bool(parsed.quiet)

    def count(self, status: str) -> int:
        """How many photos have this status."""
        return sum(row["status"] == status for row in self._rows)

    def loaded(self, model: Loaded) -> None:
        self._about |= {
            "model": model.bundle.manifest.model,
            "engines": {name: entry.label for name, entry in model.engines.items()},
            "notes": list(model.notes),
        }
        self.say(model.describe())

    def kept(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._add(job, "kept")
        if jobs:
            self.say(f"{len(jobs)} of {self._all} are there already")

    def done(self, job: Job, outcome: Outcome, seconds: float) -> None:
        from cameo.counting import count_of

        faces, said = len(outcome.faces), in_flags(outcome.note, self._parsed)
        self._add(
            job,
            "done",
            faces=faces,
            seconds=round(seconds, 3),
            note=said,
            boxes=[[round(float(side), 1) for side in face.box] for face in outcome.faces],
            times_s={name: round(taken, 3) for name, taken in outcome.times_s.items()},
        )
        found = count_of(faces, "face") if faces else "no faces"
        note = f". {said}" if said else ""
        place = f"{len(self._rows)}/{self._all} " if self._all > 1 else ""
        self.say(f"{place}{job.photo}{self._with} -> {job.result}: {found}, {seconds:.2f} s{note}")

    def failed(self, job: Job, error: CameoError) -> None:
        """Of several photos, the others are as good as they were; of one, the error is raised."""
        said = in_flags(str(error), self._parsed)
        self._add(job, "failed", error=said)
        if self._all == 1:
            raise error
        named = said if str(job.photo) in said else f"{job.photo}: {said}"
        print(f"error: {named}", file=sys.stderr)

    def end(self) -> None:
        """As JSON all of it is said now."""
        from cameo.bulk.results import facts

        if self._parsed.json:
            print(json.dumps(facts(self._rows, {**self._about, "all": self._all}), indent=2))

    def _add(self, job: Job, status: str, boxes: Sequence[Any] = (), times_s: Any = None, **said: Any) -> None:
        from cameo.bulk.results import Result

        result = "" if status == "failed" else str(job.result)
        row = asdict(Result(str(job.photo), status, result, **said))
        self._rows.append({**row, "boxes": list(boxes), "times_s": times_s or {}})

    def say(self, line: str) -> None:
        """A line, unless the command is to be quiet."""
        if not self.quiet and not self._parsed.json:
            print(line, file=sys.stderr if self._parsed.out == "-" else sys.stdout, flush=True)
