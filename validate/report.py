"""Writes a report: `report.json` for programs, `report.html` for people."""

from __future__ import annotations

import os
from pathlib import Path

from cameo.errors import OutputError
from validate.page import render
from validate.pictures import FlowPicture
from validate.results import Report

__all__ = ["FlowPicture", "write"]


def write(report: Report, folder: Path, flow: FlowPicture | None = None) -> tuple[Path, Path]:
    """Write both files into `folder`, each renamed into place when it is whole; return their paths.

    Raises:
        OutputError: the folder cannot be written to.
    """
    texts = {"report.json": report.to_json(), "report.html": render(report, flow)}
    for name, text in texts.items():
        part = folder / f".{name}.{os.getpid()}"
        try:
            part.write_text(text, encoding="utf-8")
            part.rename(folder / name)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(
                f"cannot write {folder / name} ({error.strerror}): check the folder, its permissions and the free space"
            ) from error
    return folder / "report.json", folder / "report.html"
