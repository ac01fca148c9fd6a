"""Fixtures that all tests share."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.support.heap import keep_memory

MadeOnce = Callable[[str, Callable[[Path], object]], Path]

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a core, and so have the processes that it starts
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    keep_memory()


_LONGEST = ("test_readme.py", "test_repeatable.py", "test_contributing.py")


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, for some tests wait for clients and children; four take 10 GB."""
    return min(4, (os.cpu_count() or 1) + 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest is begun first, and ends while other processes still have something to do."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


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
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Gives a folder of a name, filled by whichever process of the tests asks first; read it, and write into copies."""
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made = place / name
        with FileLock(f"{made}.lock"):
            if not made.exists():
                part = made.with_suffix(".part")
                part.mkdir(exist_ok=True)
                make(part)
                part.rename(made)
        return made

    return folder


@pytest.fixture(scope="session")
def narrow_fusion(made_once: MadeOnce) -> Path:
    """A folder with face fusion's `weights`, narrow and filled, and its `bundle`: its exports take half a minute."""
    from tests.support.fusion_weights import build_all

    return made_once("narrow-fusion", build_all)


@pytest.fixture(scope="session")
def whole_export(made_once: MadeOnce) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """Gives the graph of a finder or parser of published width with filled weights, and the facts of its export."""
    from tests.support.small_checkpoints import export_whole

    def graph_and_facts(network: str) -> tuple[Path, dict[str, Any]]:
        folder = made_once(f"whole-{network}", partial(export_whole, network))
        return folder / "model.onnx", json.loads((folder / "facts.json").read_text())

    return graph_and_facts
