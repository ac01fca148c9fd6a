"""The artifact store: every stage's result, kept under the key of all that it depends on.

    STORE/<stage>-<key>/        model.onnx (or another stage's output), manifest.json, log.txt, reproduce.sh
    STORE/.work-<pid>-<name>/   a stage being run; renamed into place as a whole when it is done
    STORE/<stage>.failed.log    the output of the stage that failed last

A folder counts only when its manifest names its key and the hash of its output: a killed run leaves a work folder,
which the next run removes, and a damaged output is built again.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cameo.artifact import Artifact, sha256_of
from cameo.errors import CameoError, OutputError
from cameo.progress import Pace
from pipeline.bar import StageBar
from pipeline.child import run_in_child, stage_command
from pipeline.disk import why_no_space
from pipeline.fingerprint import input_sha256, stage_key, stage_parameters, tool_versions
from pipeline.stage import Stage


@dataclass(frozen=True)
class Result:
    """A stage's artifact with what the stage recorded; `built` is False when it came from the store."""

    artifact: Artifact
    facts: Mapping[str, Any]
    built: bool


class Store:
    """A folder of cached stage results; `report` is told what is built, `note` (or `report`) what stages say."""

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], None] = lambda line: None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder
        self._report = report
        self._note = note or report
        self._said: set[str] = set()
        self._pace = Pace()
        self.about = ""
        """What the stages that are run are for (a network, one of its forms, a precision), to be said with them."""
        self._tools: set[str] = set()
        self.built = 0
        self.reused = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder {folder} ({error.strerror}): choose another with --out"
            ) from error
        remove_abandoned(folder, ".work-")

    def run(self, stage: Stage, source: Artifact) -> Result:
        """The result of `stage` on `source`, from the store if it is there and whole, else built now.

        What the stage has to say to the user ("notes" in its facts) is said either way, and once.

        Raises:
            CameoError: what the stage raised; nothing is kept but its log.
        """
        # Results of the store hold all that belongs to them.
        inside = source.path.is_relative_to(self.folder)
        key = stage_key(stage, source.sha256 if inside else input_sha256(stage, source))
        place = self.folder / f"{stage.name}-{key[:16]}"
        result = _read(place, key, stage) or self._build(stage, source, key, place)
        self._tools.update(stage.tools)
        self.built += result.built
        self.reused += not result.built
        for note in result.facts.get("notes", ()):
            if note not in self._said:
                self._said.add(note)
                self._note(note)
        return result

    @property
    def tools(self) -> tuple[str, ...]:
        """The distributions that the stages run so far rest on, sorted."""
        return tuple(sorted(self._tools))

    def _build(self, stage: Stage, source: Artifact, key: str, place: Path) -> Result:
        try:
            work = Path(tempfile.mkdtemp(prefix=f".work-{os.getpid()}-", dir=self.folder))
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.folder} ({error.strerror}): free space or choose --out"
            ) from error
        log = work / "log.txt"
        try:
            with StageBar(f"{stage.name}{self._of()}", self._note, self._pace) as bar:
                child = run_in_child(stage, source.path, work / stage.output, log, bar.show, bar.still)
            artifact = Artifact.of(work / stage.output)
            manifest = {
                "key": key,
                "stage": stage.name,
                "parameters": json.loads(stage_parameters(stage)),
                "input_sha256": source.sha256,
                "output_sha256": artifact.sha256,
                "beside": _beside(work, stage, log),
                "tools": tool_versions(stage.tools),
                "facts": child.facts,
                "seconds": child.seconds,
                "peak_rss_mib": child.peak_rss_mib,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            (work / "reproduce.sh").write_text(_reproduce(stage, source), "utf-8", "surrogateescape")
            (work / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
            if place.exists():
                shutil.rmtree(place)
            work.rename(place)
        except OSError as error:
            reason = why_no_space(error) or str(error.strerror or error)
            raise OutputError(f"cannot keep the result of {stage.name} in {self.folder}: {reason}") from error
        except CameoError as error:
            raise type(error)(str(error) + self._keep_log(stage, log)) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self._report(f"built {stage.name}{self._of()} in {child.seconds:.1f} s, peak {child.peak_rss_mib:.0f} MiB")
        return Result(Artifact(place / stage.output, artifact.format, artifact.sha256), child.facts, built=True)

    def _of(self) -> str:
        return f" of {self.about}" if self.about else ""

    def _keep_log(self, stage: Stage, log: Path) -> str:
        """Keep a failed stage's log beside the results; return where it is, for the message."""
        failed = self.folder / f"{stage.name}.failed.log"
        try:
            log.replace(failed)
        except OSError:
            return ""  # the disk may be what failed; the message has the last line of the log
        return f" [log: {failed}]"


def _beside(work: Path, stage: Stage, log: Path) -> dict[str, str]:
    """The hashes of what the stage wrote beside its output (the record of a conversion)."""
    return {path.name: sha256_of(path) for path in sorted(work.iterdir()) if path.name not in (stage.output, log.name)}


def _read(place: Path, key: str, stage: Stage) -> Result | None:
    try:
        manifest = json.loads((place / "manifest.json").read_text())
        output = place / stage.output
        artifact = Artifact.of(output)
        if manifest["key"] != key or artifact.sha256 != manifest["output_sha256"]:
            return None
        if any(sha256_of(place / name) != sha256 for name, sha256 in manifest["beside"].items()):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return Result(artifact, manifest["facts"], built=False)


def _reproduce(stage: Stage, source: Artifact) -> str:
    """A script that runs this stage alone."""
    command = stage_command(stage, source.path, Path(stage.output))
    command[0] = "python"
    where = f"# from the root of the checkout, with .venv/bin first on the PATH; writes {stage.output} there"
    return f"{where}\n{shlex.join(command)}\n"


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove the folders `<prefix><pid>...` of runs that were killed."""
    for work in folder.glob(f"{prefix}*"):
        pid = work.name.removeprefix(prefix).split("-")[0]
        if pid == str(os.getpid()) or not Path(f"/proc/{pid}").exists():
            shutil.rmtree(work, ignore_errors=True)


def copy_into_place(source: Path, out: Path) -> None:
    """Copy a file as a whole: a full disk or a kill leaves no half-written one.

    Raises:
        OutputError: it cannot be written.
    """
    part = out.with_name(f".{out.name}.part")
    try:
        shutil.copyfile(source, part)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {out} ({error.strerror}): check the folder and its free space") from error
