"""Fixtures that all tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder `shared/models` beside the checkout, with what the original code computes; skips where it is not."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "models"
    if not folder.is_dir():
        pytest.skip(f"needs the expected values in {folder}")
    return folder
