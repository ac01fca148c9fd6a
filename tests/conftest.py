"""Fixtures that all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a core, and so have the processes that it starts
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The demo takes the longest: begun first, it ends while other processes still have something to do."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder `shared/models` beside the checkout, with what the original code computes; skips where it is not."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "models"
    if not folder.is_dir():
        pytest.skip(f"needs the expected values in {folder}")
    return folder


@pytest.fixture(scope="module")
def in_process() -> Iterator[None]:
    """Stages run in this process and not in children of their own, which is where the time of a small build goes."""
    import pipeline.store
    from tests.support.in_process import run_in_process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.store, "run_in_child", run_in_process)
        yield
