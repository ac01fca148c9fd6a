"""`cameo batch DIR photos/ -o out/` (docs/decisions/169)."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cameo import __version__
from cameo.command_line import _consent, _flags, _making, _model
from cameo.command_line._words import in_flags
from cameo.counting import count_of
from cameo.errors import RequestError

if TYPE_CHECKING:
    from cameo.bulk.photos import Job
    from cameo.bulk.results import Result
    from cameo.flows import FlowModule

HELP = "folders of photos in, a folder of pictures out"
_OTHER: Final = "photo "
_NOT_OF_RESULTS: Final = frozenset(
    {"command", "debug", "bundle", "sources", "out", "suffix", "threads", "memory", "low_memory", "consent", "quiet"}
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="photos", help="folders, with all below them, or files"
    )
    _flags.add_loading(parser)
    parser.add_argument("-o", "--out", type=_flags.place, required=True, help="the folder to write to, which is made")
    _flags.add_writing(parser)
    _flags.add_signing(parser)
    others = parser.add_argument_group("photos that stay the same, of models that take several: all but one")
    for name, flows in _names_of_photos().items():
        others.add_argument(f"--{name}", dest=_OTHER + name, type=Path, metavar="FILE", help=", ".join(flows))
    _flags.add_options(parser)


def _names_of_photos() -> dict[str, list[str]]:
    """The flows that take several photos, by the photos' names."""
    from cameo.flows import flow_module, flow_names

    several = [(flow, takes) for flow in flow_names() if len(takes := flow_module(flow).TAKES) > 1]
    return {name: [flow for flow, takes in several if name in takes] for _, takes in several for name in takes}


def run(parsed: argparse.Namespace) -> int:
    """Write the picture of every photo that has none yet; 1 if any failed. What is done is kept when it is killed.

    Raises:
        PhotoError: there are no photos.
        OutputError: nothing can be written.
        RequestError: an option is out of range, or another photo or consent is needed.
    """
    from cameo.bulk.journal import journal
    from cameo.bulk.photos import STANDARD, Naming, jobs_of, left_out
    from cameo.bulk.results import Result, write_results
    from cameo.bulk.running import Batch, run_batch, summary
    from cameo.images import check_photo

    module, out, started = _model.flow_of(parsed.bundle), Path(parsed.out), time.monotonic()
    has_consent = _consent.is_given(module, parsed.consent)
    others = {key.removeprefix(_OTHER): path for key, path in vars(parsed).items() if key.startswith(_OTHER) and path}
    if STANDARD in (out, *parsed.sources, *others.values()):
        raise RequestError("a batch has no standard input or output (-): name folders or files, or use cameo run")
    beside = {**others, **_model.pictures(parsed, module)}
    for path in beside.values():
        check_photo(path)
    jobs = jobs_of(parsed.sources, out, Naming(parsed.format or "png", parsed.suffix), beside.values())
    making, results = _making.making_of(parsed, module, others), list[Result]()
    run_of = _run_of(parsed, module, beside)
    with journal(out, run_of) as kept, _model.load(parsed, has_consent, parsed.allow_truncated) as model:
        if not parsed.quiet:
            about = (model.describe(), count_of(len(jobs), "photo"), left_out(parsed.sources, out, jobs))
            print("\n".join(filter(None, about)), flush=True)
        batch = Batch(model, kept.run, making, parsed.quiet)
        try:
            run_batch(batch, jobs, out, kept, results)
        except KeyboardInterrupt:
            done = count_of(sum(one.status != "failed" for one in results), "photo")
            said = f"interrupted with {done} of {len(jobs)} done: the same command goes on with the rest"
            print(said, file=sys.stderr)
            raise
        finally:
            told = _told(results, jobs, parsed)
            write_results(out, told, {"model": model.bundle.manifest.model, "all": len(jobs)})
    if has_consent:
        _making.remember(module)
    *failed, counts = summary(told, time.monotonic() - started)
    print("\n".join([*failed, counts] if not parsed.quiet else failed), end="\n" if failed or not parsed.quiet else "")
    return 1 if failed else 0


def _told(results: Sequence[Result], jobs: Sequence[Job], parsed: argparse.Namespace) -> list[Result]:
    """The results in the order of the jobs, and in the words of the command line."""
    order = {job.name: place for place, job in enumerate(jobs)}
    return [
        replace(one, note=in_flags(one.note, parsed), error=in_flags(one.error, parsed))
        for one in sorted(results, key=lambda result: order[result.photo])
    ]


def _says_something(key: str, value: Any, module: FlowModule) -> bool:
    """Whether an argument says anything else than its absence."""
    from cameo.declaring import declarations

    usual = {_flags.OPTION + one.name: one for one in (*declarations(module.Options), *declarations(module.Request))}
    if key in usual and value:
        return bool(usual[key].from_text(value) != usual[key].default)
    return value not in ("", None, False, 0) and (key, value) != ("format", "png")


def _run_of(parsed: argparse.Namespace, module: FlowModule, beside: Mapping[str, Path]) -> str:
    """The hash of all that a result depends on besides its photo: version, bundle, engine, options, other pictures."""
    from cameo.artifact import sha256_of
    from cameo.bundle import MANIFEST_NAME, Bundle

    given = {key: value for key, value in vars(parsed).items() if key not in _NOT_OF_RESULTS and _OTHER not in key}
    asked = {key: str(value) for key, value in given.items() if _says_something(key, value, module)}
    photos = {name: sha256_of(path) for name, path in beside.items()}
    bundle = sha256_of(Bundle(parsed.bundle).folder / MANIFEST_NAME)
    whole = json.dumps([__version__, bundle, asked, photos], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
