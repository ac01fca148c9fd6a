"""Many photos through one model: in order, bounded, and one that fails ends nothing else."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cameo
from cameo.errors import EngineError, PhotoError
from cameo.loading import Loaded
from cameo.many import in_order
from cameo.testing import Strain, fake_bundle, image_session


def photo(value: int) -> Any:
    return np.full((64, 64, 3), value, np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Loaded]:
    networks = {"gpen-bfr-64": image_session(lambda image: 255 - image, Strain(run_s=0.001))}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder, cameo.load(folder, aligned=True) as loaded:
        yield loaded


def test_results_come_in_order_and_errors_at_their_place(model: Loaded) -> None:
    photos = [photo(0), "nowhere.jpg", photo(2), b"no photo", *(photo(value) for value in range(4, 40))]
    made = list(model.run_many(photos))
    assert [one.error is None for one in made] == [True, False, True, False] + [True] * 36
    assert all(one.photo is given for one, given in zip(made, photos, strict=True))
    assert made[2].result().image[0, 0, 0] == 253
    assert [int(one.result().image[0, 0, 0]) for one in made[4:]] == [255 - value for value in range(4, 40)]
    with pytest.raises(PhotoError, match="nowhere.jpg does not exist"):
        made[1].result()


def test_a_request_is_for_all_of_them(model: Loaded) -> None:
    (made,) = model.run_many([photo(1)], model.request(aligned=False))
    assert made.result().note == "No face was found, so none was restored."


def test_no_more_are_begun_than_are_in_flight() -> None:
    begun: list[int] = []
    results = in_order(lambda item: begun.append(item) or item, iter(range(100)), 3)
    for expected in range(20):
        assert next(results) == expected
        assert len(begun) <= expected + 3
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 23


def test_items_run_at_once() -> None:
    meeting = threading.Barrier(3)
    assert list(in_order(lambda item: (meeting.wait(20), item)[1], range(6), 3)) == list(range(6))


def test_a_bug_ends_the_iterator_at_its_place() -> None:
    results = in_order(lambda item: 1 // item, [2, 1, 0, 1], 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_photos_are_no_results(model: Loaded) -> None:
    assert list(model.run_many([])) == []


def test_calls_can_be_awaited_together(model: Loaded) -> None:
    async def several() -> list[Any]:
        return await asyncio.gather(*(model.arun(photo(value)) for value in range(10)))

    made = asyncio.run(several())
    assert [int(one.image[0, 0, 0]) for one in made] == [255 - value for value in range(10)]
    with pytest.raises(PhotoError, match="does not exist"):
        asyncio.run(model.arun("nowhere.jpg"))


def test_a_dropped_model_is_closed_and_leaves_no_thread(tmp_path: Path) -> None:
    """Nobody closed it: nothing of it is left that would keep the engine."""
    networks = {"gpen-bfr-64": image_session(lambda image: image)}
    before = set(threading.enumerate())
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder:
        model = cameo.load(folder, aligned=True)
        model(photo(1))
        device = model.runtime.device("cpu")
        del model
        gc.collect()
        assert device._closed
        assert set(threading.enumerate()) <= before


def test_a_closed_model_says_so_for_each(model: Loaded) -> None:
    model.close()
    (made,) = model.run_many([photo(1)])
    assert isinstance(made.error, EngineError)
