"""Where on this machine the checkpoints of bundles lie: kept beside the stages' results, never inside a bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cameo.artifact import Artifact
from pipeline.store import Store

_NAME = "checkpoints.json"


def remember(store: Store, checkpoints: Iterable[Artifact]) -> None:
    """Note where each of them lies, by its hash."""
    known = _read(store.folder) | {one.sha256: str(one.path.resolve()) for one in checkpoints}
    part = store.folder / f".{_NAME}.{os.getpid()}"
    part.write_text(json.dumps(known, indent=2) + "\n")
    part.replace(store.folder / _NAME)


def whereabouts(bundle: Path, sha256: str) -> Path | None:
    """Where the checkpoint with this hash lay when the bundle was built, if that was here."""
    place = _read(bundle.parent / ".store").get(sha256)
    return Path(place) if place is not None else None


def _read(folder: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads((folder / _NAME).read_text())
    except (OSError, ValueError):
        return {}
    return known
