"""What the original code computes on seeded inputs with filled weights: `tests/golden`, in every clone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.fill import Array

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name: str) -> dict[str, Array]:
    """The arrays of `tests/golden/<name>.npz`; packed ones (`X/shape`, `X/stat`, `X/samp`) are for `fill.compare`."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def key_listing(name: str) -> Any:
    """The content of `tests/golden/keys/<name>.json.gz`: what is in the published checkpoint or graph."""
    return json.loads(gzip.decompress((GOLDEN / "keys" / f"{name}.json.gz").read_bytes()))


def published_keys(name: str) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of the published checkpoint, in their order."""
    return {key: tuple(entry["shape"]) for key, entry in key_listing(name)["keys"].items()}
