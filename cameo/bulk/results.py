"""What became of every photo of a batch, for people and programs: results.csv and results.json."""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from cameo.errors import CameoError, OutputError

TABLE: Final = "results.csv"


@dataclass(frozen=True)
class Result:
    """`status` is "done", "kept" (of an earlier run) or "failed"; `result` is relative to the output folder."""

    photo: str
    status: str
    result: str = ""
    faces: int = 0
    seconds: float = 0.0
    note: str = ""
    error: str = ""


def sentence(error: Exception) -> str:
    """Why a photo failed; an error that is none of ours is a bug, but one photo's: the others are as good as before."""
    return str(error) if isinstance(error, CameoError) else f"{type(error).__name__}: {error}: report this"


def facts(rows: Sequence[Mapping[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """What programs are told: `about`, how many photos have each status, and every photo, as JSON has it."""
    counts = {status: sum(row["status"] == status for row in rows) for status in ("done", "kept", "failed")}
    return {**about, **counts, "photos": list(rows)}


def write_results(folder: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write both files whole; the JSON has `about` besides, and counts.

    Raises:
        OutputError: one cannot be written.
    """
    rows = [asdict(result) for result in results]
    _write(folder / TABLE, table(results))
    _write(folder / "results.json", json.dumps(facts(rows, about), indent=1, ensure_ascii=False) + "\n")


def table(results: Sequence[Result]) -> str:
    """The results as CSV, with a line of names at the top."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Result)])
    writer.writeheader()
    writer.writerows(map(asdict, results))
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(text.encode(errors="surrogateescape"))  # names of files may be no text
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path} could not be written ({error.strerror}): free some space") from error
    finally:
        part.unlink(missing_ok=True)
