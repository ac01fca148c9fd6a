"""Fixtures that all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

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
    from tests.support.in_process import stages_in_process

    with stages_in_process():
        yield


@pytest.fixture
def sessions_in_process() -> Iterator[None]:
    """Originals and engines are compared in this process and not in children of their own."""
    from tests.support.in_process import sessions_in_process

    with sessions_in_process():
        yield


@pytest.fixture(scope="session")
def narrow_fusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with face fusion's `weights`, narrow and filled, and its `bundle`; read it, and write into copies.

    Its export takes half a minute, so whichever process of the tests comes first builds it for all.
    """
    from tests.support.fusion_weights import build_all

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "narrow-fusion"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            build_all(folder.with_suffix(".part")).rename(folder)
    return folder
