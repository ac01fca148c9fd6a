"""The flow of two photos that CONTRIBUTING.md shows, beside the others while a test lasts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import cameo.flows
from cameo.tensors import TensorSpec
from cameo.testing import IMAGE, FakeSession, fake_bundle

ROOT = Path(__file__).resolve().parents[2]
CONSENT = "Duet shows people in a mood that was never theirs: it needs their consent."
COLOUR = TensorSpec("colour", "float32", ("N", 3))


def duet_source() -> str:
    """Its file."""
    found = re.search(r"```python\n# cameo/flows/duet.py\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert found
    return found[1]


@contextmanager
def duet(patch: pytest.MonkeyPatch, folder: Path, consent: str = "") -> Iterator[Path]:
    """A bundle of the flow, whose network gives the template the face's mean colour; `consent` is what it asks for."""
    flows = folder / "flows"
    flows.mkdir()
    (flows / "duet.py").write_text(duet_source() + (f"\nCONSENT = {consent!r}\n" if consent else ""))
    patch.setattr(cameo.flows, "__path__", [*cameo.flows.__path__, str(flows)])
    patch.setattr(sys, "dont_write_bytecode", True)
    mixer = FakeSession(
        lambda image, colour: {"result": np.broadcast_to(np.uint8(colour), image.shape)}, (IMAGE, COLOUR)
    )
    try:
        with fake_bundle(folder / "bundle", "duet", {"duet-mixer": mixer}) as bundle:
            yield bundle
    finally:
        sys.modules.pop("cameo.flows.duet", None)
        vars(cameo.flows).pop("duet", None)
