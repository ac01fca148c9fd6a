"""Callers of a device: one owns it at a time, runs what all brought, and leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from cameo.batching import Batched, Device
from cameo.batching.device import Row
from cameo.errors import EngineError, PhotoTooLarge
from cameo.memory.budget import Budget
from cameo.memory.need import Need
from cameo.memory.room import Room
from cameo.session import Tensor
from cameo.testing import Strain, image_session
from tests.cameo.batching.support import SIDE, Gate, batched, eventually, inverted, pay, picture, together


def test_a_lone_caller_runs_its_rows_itself() -> None:
    """A thread per device would leave its heap behind with every model that was loaded and closed."""
    runners: list[threading.Thread] = []

    def note(feeds: Mapping[str, Tensor]) -> None:
        runners.append(threading.current_thread())

    before = set(threading.enumerate())
    for value in range(3):
        with batched(inverted(Strain(fails=note))) as network:
            network.run({"image": np.concatenate([picture(value), picture(9)])})
            assert set(threading.enumerate()) <= before
    assert runners == [threading.current_thread()] * 6


def test_one_caller_at_a_time_owns_the_device() -> None:
    inside: list[int] = []
    most: list[int] = []

    def note(feeds: Mapping[str, Tensor]) -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()

    with batched(inverted(Strain(fails=note))) as network, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda value: network.run({"image": picture(value)})["result"], range(50)))
    assert set(most) == {1}
    assert [int(one[0, 0, 0, 0]) for one in made] == [255 - value for value in range(50)]


def test_who_is_interrupted_while_it_runs_others_rows_gives_them_back() -> None:
    """The first caller runs both rows and is interrupted; the second's row runs all the same."""
    interrupted = threading.Event()

    def once(feeds: Mapping[str, Tensor]) -> None:
        if len(feeds["image"]) == 2 and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    gate = Gate(inverted(Strain(fails=once)))
    with batched(gate, exact=False) as network:
        pay(network)
        results = together(network, gate, [picture(1), picture(2)])
        device = network._device
        assert (device._rows, device._running) == ([], set())
    assert interrupted.is_set()
    assert sorted(isinstance(result, KeyboardInterrupt) for result in results) == [False, True]
    assert {int(one[0, 0, 0, 0]) for one in results if not isinstance(one, BaseException)} < {254, 253}


def joining(network: Batched, before: Callable[[int], None] = lambda rows: None) -> list[int]:
    """The rows of the batches that are put together while the device runs another, as they come."""
    sizes, joined = list[int](), network.joined

    def note(rows: Sequence[Row]) -> Mapping[str, Tensor] | None:
        sizes.append(len(rows))
        before(len(sizes))
        return joined(rows)

    network.joined = note  # type: ignore[method-assign]
    return sizes


@pytest.mark.parametrize(("rows", "early"), [(3, []), (4, [4]), (10, [4, 4])])
def test_a_full_batch_is_put_together_while_another_runs(rows: int, early: list[int]) -> None:
    """One at a time; what may yet become larger waits in line."""
    session = inverted(Strain(run_s=0.1))
    gate = Gate(session)
    with batched(gate, exact=False) as network:
        pay(network)  # up to four at once
        sizes = joining(network)
        results = together(network, gate, [picture(value) for value in range(1, rows + 1)])
    assert [int(result[0, 0, 0, 0]) for result in results] == [255 - value for value in range(1, rows + 1)]
    assert sizes == early
    assert [shape[0] for shape in session.shapes][: len(early) + 1] == [1, *early]


def test_who_is_interrupted_before_it_has_the_device_gives_its_batch_back() -> None:
    def interrupt(batches: int) -> None:
        if batches == 1:
            raise KeyboardInterrupt

    session = inverted()
    gate = Gate(session)
    with batched(gate, exact=False) as network:
        pay(network)
        sizes = joining(network, interrupt)
        results = together(network, gate, [picture(value) for value in range(4)])
        device = network._device
        assert (device._rows, device._running, device._early) == ([], set(), None)
    assert sizes[0] == 4
    assert sum(isinstance(result, KeyboardInterrupt) for result in results) == 1
    right = [255 - value for value in range(4)]
    assert all(
        isinstance(one, BaseException) or one[0, 0, 0, 0] == value for one, value in zip(results, right, strict=True)
    )


def test_what_cannot_be_put_together_for_want_of_memory_runs_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    concatenate = np.concatenate

    def refuse(arrays: Sequence[Tensor]) -> Tensor:
        if len(arrays) > 2:
            raise MemoryError
        return concatenate(arrays)

    session = inverted()
    gate = Gate(session)
    with batched(gate, exact=False) as network:
        pay(network)
        sizes = joining(network)
        monkeypatch.setattr("cameo.batching.batched.np.concatenate", refuse)
        results = together(network, gate, [picture(value) for value in range(4)])
    assert sizes == [4]
    assert [int(result[0, 0, 0, 0]) for result in results] == [255 - value for value in range(4)]
    assert [shape[0] for shape in session.shapes] == [1, 2, 2]


def test_a_device_that_was_closed_says_so() -> None:
    with batched(inverted()) as network:
        network.run({"image": picture(1)})
        network._device.close()
        with pytest.raises(EngineError, match="was asked to run after its session was closed: open it again"):
            network.run({"image": picture(1)})


def test_a_visit_that_is_given_up_leaves_the_line() -> None:
    session = inverted()
    gate = Gate(session)
    with batched(gate) as network, ThreadPoolExecutor(2) as pool:
        device = network._device
        first = pool.submit(network.run, {"image": picture(0)})
        assert gate.entered.wait(20)
        visits = []

        def visit() -> None:
            with device.visit() as one:
                visits.append(one)
                network.run({"image": picture(1)})

        second = pool.submit(visit)
        eventually(lambda: bool(visits) and visits[0].waiting == 1)
        device.give_up(visits[0])
        with pytest.raises(EngineError, match="given up while it waited"):
            second.result(20)
        assert visits[0].waiting == 0
        gate.open.set()
        first.result(20)
    assert len(session.shapes) == 1


def test_rows_that_come_after_their_visit_was_given_up_do_not_run() -> None:
    session = inverted()
    with batched(session) as network, network._device.visit() as visit:
        network._device.give_up(visit)
        with pytest.raises(EngineError, match="nobody wanted its result"):
            network.run({"image": picture(1)})
    assert not session.shapes


def test_a_visit_within_a_visit_is_the_same_caller() -> None:
    device = Device()
    with device.visit() as outer:
        with device.visit() as inner:
            assert inner is outer
        assert device.inside == 1
    assert device.inside == 0


def test_what_does_not_pay_is_tried_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.0]

    def compute(image: Tensor) -> Tensor:
        seconds[0] += len(image)  # as many rows, as much time
        return 255 - image

    clock = SimpleNamespace(perf_counter=lambda: seconds[0], monotonic=time.monotonic)
    monkeypatch.setattr("cameo.batching.batched.time", clock)
    session = image_session(compute)
    pair = np.concatenate([picture(0), picture(1)])
    with batched(session, exact=False) as network:
        for _ in range(1000):
            network.run({"image": pair})
    trials = [number for number, shape in enumerate(session.shapes) if shape[0] == 2]
    assert 4 <= len(trials) <= 12
    assert trials[-1] - trials[-2] >= 256


def test_a_device_counts_batches_and_recoveries() -> None:
    session = inverted(Strain(most_pixels=2 * SIDE * SIDE))
    with batched(session, exact=False) as network:
        network.batch_for = lambda key, waiting: waiting  # type: ignore[method-assign]
        network.run({"image": np.concatenate([picture(value) for value in range(4)])})
        assert (network._device.batches, network._device.recoveries) == ({2: 2}, 1)


def test_what_others_hold_and_do_not_use_is_freed_for_a_picture() -> None:
    budget = Budget(given=2 * SIDE * SIDE)
    budget.hold(1.5 * SIDE * SIDE)
    freed: list[int] = []

    def more() -> bool:
        if not freed:
            budget.hold(-1.5 * SIDE * SIDE)
        freed.append(1)
        return len(freed) == 1

    with batched(inverted(), room=Room(budget, Need(0, 1, "measured"), more=more)) as network:
        assert network.run({"image": picture(1)})["result"].shape == (1, SIDE, SIDE, 3)
        with pytest.raises(PhotoTooLarge):
            network.run({"image": picture(1, 2 * SIDE)})
    assert len(freed) == 2


def test_a_row_waits_for_company_while_that_pays() -> None:
    """Two callers are inside; one comes a little later, and its row still runs with the first's."""
    session = inverted()
    with batched(session, exact=False) as network, ThreadPoolExecutor(2) as pool:
        pay(network, a=0.0, b=5.0)
        network._gap_s = 0.01
        device, late = network._device, threading.Event()

        def visit(wait: bool) -> None:
            with device.visit():
                if wait:
                    assert late.wait(20)
                network.run({"image": picture(1)})

        calls = [pool.submit(visit, wait) for wait in (True, False)]
        eventually(lambda: len(device._rows) == 1 and device.inside == 2)
        time.sleep(0.02)
        assert session.shapes == []
        late.set()
        for call in calls:
            call.result(20)
    assert [shape[0] for shape in session.shapes] == [2]
