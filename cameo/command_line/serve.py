"""`cameo serve DIR [DIR...]`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cameo.command_line import _flags, _model
from cameo.errors import CameoError, RequestError
from cameo.log_lines import FORMS

if TYPE_CHECKING:
    from cameo.jobs.job import JobOptions
    from cameo.server.keys import ApiKeys
    from cameo.workers.calls import Served, WorkOptions

HELP = "photos in, pictures out over HTTP"
_MOST_PORT = 65535
_LOADING = ("mode", "engine", "precision", "device", "threads", "low_memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("bundles", nargs="+", metavar="[NAME=]DIR", help="a bundle's folder, and how to call its model")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one of this machine"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name that the server is also reached by"
    )
    parser.add_argument("--port", type=_port, default=8000, help="default: 8000; 0 takes a free one")
    parser.add_argument(
        "--queue", type=_flags.count, default=8, help="photos let in at once, those that run included (default: 8)"
    )
    parser.add_argument(
        "--timeout", type=_flags.count, default=30, help="seconds until a client gets an error (default: 30)"
    )
    parser.add_argument("--max-upload", type=_flags.count, default=64, help="largest file in MiB (default: 64)")
    parser.add_argument("--max-megapixels", type=_flags.count, default=50, help="largest photo (default: 50)")
    parser.add_argument("--api-keys", type=Path, metavar="FILE", help="let in only who has a key of this file")
    parser.add_argument("--jobs", type=Path, metavar="FOLDER", help="take jobs of many photos, and keep them there")
    parser.add_argument(
        "--keep-jobs",
        type=_flags.count,
        metavar="HOURS",
        help="until a job that is done is removed (default: 24)",
    )
    parser.add_argument(
        "--log", choices=FORMS, default="", help="the log's form (default: text on a terminal, else json)"
    )
    _flags.add_loading(parser)
    _flags.add_signing(parser)
    _flags.add_options(parser, pictures=False)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > _MOST_PORT:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port, expected a whole number from 0 to {_MOST_PORT}")
    return int(text)


def run(parsed: argparse.Namespace) -> int:
    """Serve until it is told to end."""
    try:
        from cameo.server import ServeOptions, child_crew, serve
        from cameo.server.logs import sayer, write_logs
    except ModuleNotFoundError as error:
        raise CameoError(
            f"cameo serve needs the package {error.name}, which is not installed: install the extra `serve`, as in "
            "pip install jinja2 prometheus-client python-multipart starlette uvicorn"
        ) from None
    if wrong := [name for name in parsed.allow_host if not _is_host(name)]:
        raise RequestError(f"--allow-host is {wrong[0]!r:.80}, expected a name without port, such as portraits.example")
    options = ServeOptions(
        parsed.queue,
        parsed.timeout,
        parsed.max_upload,
        tuple(parsed.allow_host),
        grace_s=parsed.timeout,
        keys=_keys(parsed.api_keys),
        jobs=_jobs(parsed),
    )
    served, work = _served(parsed), _work(parsed)
    write_logs(parsed.log)
    serve(served, lambda: child_crew(served, work, options.crew), options, parsed.host, parsed.port, sayer(parsed.log))
    return 0


def _is_host(name: str) -> bool:
    """Whether a `Host` header could have it, its port aside."""
    return re.fullmatch(r"[\w.-]+|[\da-f:.]+", name, re.ASCII | re.IGNORECASE) is not None


def _jobs(parsed: argparse.Namespace) -> JobOptions | None:
    from cameo.jobs.job import JobOptions

    if parsed.jobs is None:
        if parsed.keep_jobs:
            raise RequestError("--keep-jobs says how long jobs are kept, and none are: add --jobs FOLDER")
        return None
    return JobOptions(parsed.jobs, parsed.keep_jobs or JobOptions.keep_hours, max_photo_mib=parsed.max_upload)


def _keys(path: Path | None) -> ApiKeys | None:
    from cameo.server.keys import ApiKeys

    return None if path is None else ApiKeys.of_file(path)


def _work(parsed: argparse.Namespace) -> WorkOptions:
    """What all models share: the budget, limits, and what signs."""
    from cameo.memory.amounts import as_bytes
    from cameo.workers.calls import WorkOptions

    if parsed.memory:
        as_bytes(parsed.memory)
    _model.signer_of(parsed)  # what is wrong is said here, and not by a worker
    signing = None if parsed.c2pa is None else (str(parsed.c2pa[0]), str(parsed.c2pa[1]))
    return WorkOptions(parsed.memory, max_megapixels=parsed.max_megapixels, signing=signing, log=parsed.log)


def _served(parsed: argparse.Namespace) -> list[Served]:
    """The models, each with those of the given options that it has.

    Raises:
        BundleError: one is no bundle.
        RequestError: two go by one name, or an option belongs to none of them.
    """
    from cameo.declaring import declarations, named
    from cameo.workers.calls import Served

    folders = _named(parsed.bundles)
    loading = {name: value for name in _LOADING if (value := getattr(parsed, name))}
    given = _model.given(parsed)
    served, taken = [], set[str]()
    for name, folder in folders.items():
        module = _model.flow_of(folder)
        own = {one.name for one in (*declarations(module.Options), *declarations(module.Request))}
        served.append(Served(name, folder, loading, {key: text for key, text in given.items() if key in own}))
        taken |= own
    if unknown := sorted(set(given) - taken):
        raise RequestError(f"{', '.join(folders)} has no option {named(*unknown)}: leave it out, or serve its model")
    return served


def _named(arguments: Sequence[str]) -> dict[str, Path]:
    """The folders by the names of their models: those that were given, else those of the bundles."""
    from cameo.bundle import Bundle

    found: dict[str, Path] = {}
    for argument in arguments:
        name, folder = _split(argument)
        name = name or Bundle(folder).manifest.model
        if name in found:
            raise RequestError(
                f"{found[name]} and {folder} are both called {name}, expected names of their own: "
                f"call one otherwise, as in other={folder}"
            )
        found[name] = folder
    return found


def _split(argument: str) -> tuple[str, Path]:
    """NAME=DIR, or a folder, which may have a "=" in its name."""
    from cameo.bundle import NAME

    name, sign, folder = argument.partition("=")
    if not sign or Path(argument).is_dir():
        return "", Path(argument)
    if not NAME.fullmatch(name):
        raise RequestError(
            f"{name!r:.80} cannot be a model's name, expected up to 64 letters, digits, '.', '_' and '-', such as "
            f"faces={folder}"
        )
    if not folder:
        raise RequestError(f"{argument} names a model and no folder, expected {name}=DIR")
    return name, Path(folder)
