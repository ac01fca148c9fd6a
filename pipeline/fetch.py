"""Fetches the authors' files of a model from ModelScope, with its own hub client (docs/decisions/040).

    OUT/<file>                  a file that is whole and verified: downloaded beside its place, then renamed into it
    OUT/fetched.json            what was fetched: repository, revision; path, sha256, size and date of every file
    OUT/.fetching/              the transfers under way, kept over a kill so that the next run resumes them

A file counts only when the record names it and its hash is the recorded one: a second run that finds this of every
file asks nobody. Access is anonymous; `MODELSCOPE_ENDPOINT` names another server.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import exporters
from cameo.artifact import sha256_of
from cameo.errors import CheckpointError, OutputError, RequestError
from exporters.published import REVISION, Source

Say = Callable[[str], None]

RECORD = "fetched.json"
WORK = ".fetching"


@dataclass(frozen=True)
class Published:
    """A file as its repository lists it; size 0 and sha256 "" where the listing does not say."""

    path: str
    size: int
    sha256: str


@dataclass
class Record:
    """What `fetched.json` says: the files in place by name, and the companions that the repository does not have."""

    repository: str
    revision: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, out: Path) -> Record:
        """The record in `out`; an empty one where there is none that can be read."""
        try:
            record = cls(**json.loads((out / RECORD).read_text()))
            whole = all("sha256" in entry for entry in record.files.values())
        except (OSError, ValueError, TypeError, AttributeError):
            return cls("", "")
        return record if whole else cls("", "")

    def write(self, out: Path) -> None:
        """Put the record into `out` as a whole."""
        part = out / WORK / RECORD
        part.write_text(json.dumps(vars(self), indent=2) + "\n")
        part.replace(out / RECORD)


def source_of(model: str, repository: str = "", revision: str = REVISION) -> Source:
    """Where `model` is published; `repository` names another one with the same files, as of another style.

    Raises:
        RequestError: nothing is known to be published for `model`, or the repository's name is none.
    """
    sources = {name: known.source for name, known in exporters.models().items() if known.source}
    if model not in sources:
        raise RequestError(f"ModelScope has nothing to fetch for '{model}': choose one of {', '.join(sources)}")
    if repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise RequestError(f"--repository={repository}: expected OWNER/NAME, as in the address of its page")
    source = sources[model]
    return replace(source, repository=repository or source.repository, revision=revision)


def fetch(source: Source, out: Path, say: Say) -> int:
    """Bring the files of `source` into the folder `out`; return how many were downloaded.

    Raises:
        CheckpointError: they cannot be downloaded; the message says what to put where by hand.
        OutputError: `out` cannot be written, or holds another file under one of their names.
    """
    record = Record.read(out)
    wanted = _wanted(source, out, record)
    if not wanted:
        return 0
    work = out / WORK / f"{source.repository.replace('/', '--')}@{source.revision}"
    with _explained(source, wanted, out):
        work.mkdir(parents=True, exist_ok=True)
        hub = _hub(work)
        say(f"asking {_endpoint()} for {source.repository}")
        listing = _listing(hub, source)
        ours = set(record.files)
        record = _planned(source, record, listing)
        for name in record.absent:
            say(f"{source.repository} has no {name}")
        downloaded = 0
        for name in (name for name in wanted if name in listing):
            downloaded += _bring(hub, source, listing[name], out / name, work, replaceable=name in ours)
            record.files[name] = _entry(listing[name], out / name)
            record.write(out)
            say(f"{name}: {record.files[name]['size'] / 2**20:.1f} MiB, sha256 {record.files[name]['sha256'][:16]}...")
        record.write(out)
        shutil.rmtree(out / WORK, ignore_errors=True)
    return downloaded


def _wanted(source: Source, out: Path, record: Record) -> list[str]:
    """The files that are not in `out` as the record has them."""
    if (record.repository, record.revision) != (source.repository, source.revision):
        return list(source.files)
    return [name for name in source.files if name not in record.absent and not _is_current(out, name, record)]


def _is_current(out: Path, name: str, record: Record) -> bool:
    """Whether the file is as the record has it."""
    path = out / name
    return name in record.files and path.is_file() and sha256_of(path) == record.files[name]["sha256"]


def _planned(source: Source, record: Record, listing: Mapping[str, Published]) -> Record:
    """The record to continue: the same one, or a new one where the repository or revision is another."""
    same = (record.repository, record.revision) == (source.repository, source.revision)
    absent = [name for name in source.companions if name not in listing]
    return Record(source.repository, source.revision, dict(record.files) if same else {}, absent)


def _hub(work: Path) -> Any:
    """ModelScope's client, with all that it writes in `work`; anonymous, so that no stored token is read or sent."""
    # An offline machine is told so within seconds: the client asks four times otherwise, over 16 s.
    os.environ.setdefault("MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS", "2")
    from modelscope_hub import HubApi, HubConfig

    logging.getLogger("modelscope_hub").setLevel(logging.ERROR)
    return HubApi(HubConfig(token="", cache_dir=work, config_dir=work))


def _listing(hub: Any, source: Source) -> dict[str, Published]:
    """The wanted files of the repository by name; of several with one name, the one nearest to the root."""
    entries = hub.list_repo_files(source.repository, "model", revision=source.revision)
    entries = sorted(entries, key=lambda entry: entry.path.count("/"), reverse=True)
    files = {
        name: Published(entry.path, entry.size or 0, entry.sha256 or "")
        for entry in entries
        for name in source.files
        if entry.type != "tree" and _lies_at(entry.path, name)
    }
    missing = [name for name in source.required if name not in files]
    if missing:
        held = ", ".join(sorted(entry.path for entry in entries)) or "nothing"
        raise CheckpointError(
            f"{source.repository} ({source.revision}) has no {' and no '.join(missing)}, it holds {held}: "
            "choose another --repository or --revision"
        )
    return files


def _lies_at(path: str, name: str) -> bool:
    """Whether `path` ends in `name`; never for a path that leads out of its folder."""
    parts, ending = PurePosixPath(path).parts, PurePosixPath(name).parts
    return parts[-len(ending) :] == ending and ".." not in parts and not path.startswith("/")


def _bring(hub: Any, source: Source, file: Published, place: Path, work: Path, replaceable: bool) -> bool:
    """Put one published file into its place; return whether it had to be downloaded.

    What lies there already is kept if it is that file, replaced if an earlier run fetched it, and refused otherwise.
    """
    if place.exists() and file.sha256 and sha256_of(place) == file.sha256:
        return False
    if place.exists() and not replaceable:
        raise OutputError(
            f"{place} is not the file that {source.repository} publishes (sha256 {file.sha256 or 'not published'}) "
            "and was not fetched by this command: move it away or choose another --out, it was not changed"
        )
    part = hub.download_file(
        source.repository,
        "model",
        file.path,
        revision=source.revision,
        cache_dir=work,
        local_dir=work,
        expected_sha256=file.sha256 or None,
        file_size=file.size or None,
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    Path(part).replace(place)
    return True


def _entry(file: Published, place: Path) -> dict[str, Any]:
    return {
        "path": file.path,
        "sha256": sha256_of(place),
        "size": place.stat().st_size,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextmanager
def _explained(source: Source, names: Iterable[str], out: Path) -> Iterator[None]:
    """Turn the failures of client, network and disk into one sentence each."""
    by_hand = f"download {', '.join(names)} from {_page(source)} in a browser and put them into {out}"
    try:
        from modelscope_hub import FileIntegrityError, HubError, NetworkError, NotExistError
        from requests import RequestException
    except ImportError as error:
        raise CheckpointError(
            f"fetching needs the package modelscope-hub (pip install -e '.[fetch]'); without it, {by_hand}"
        ) from error
    try:
        yield
    except NotExistError as error:
        raise CheckpointError(
            f"ModelScope does not have {source.repository} at revision {source.revision}, or lists a file that is not "
            f"there: choose another --repository or --revision, or {by_hand}"
        ) from error
    except FileIntegrityError as error:
        raise CheckpointError(
            f"{source.repository} sends another file than it lists ({error.message}): "
            f"nothing of it was kept, try again later or {by_hand}"
        ) from error
    except (NetworkError, RequestException) as error:
        raise CheckpointError(
            f"{_endpoint()} cannot be reached, or broke off: run this again when online (it resumes), or {by_hand}"
        ) from error
    except HubError as error:
        raise CheckpointError(f"{_endpoint()} refuses ({error.message}): try again later, or {by_hand}") from error
    except OSError as error:
        raise OutputError(f"cannot write to {out} ({error.strerror}): free space or choose another --out") from error


def _endpoint() -> str:
    return os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"


def _page(source: Source) -> str:
    """The web page with the repository's files."""
    return f"{_endpoint()}/models/{source.repository}/files"
