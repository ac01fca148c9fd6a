"""Rows of many callers through one device: together where it fits, pays and changes nothing; each gets its own."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cameo.batches import run_rows
from cameo.batching import Batched, Device
from cameo.batching.refusals import Refusals
from cameo.errors import EngineError, OutOfMemory, PhotoTooLarge
from cameo.memory.budget import Budget
from cameo.memory.need import Need
from cameo.memory.room import Room
from cameo.session import Session, Tensor
from cameo.testing import FakeSession, Strain, image_session
from tests.cameo.batching.support import SIDE, Gate, batched, inverted, pay, picture, together


class Forgetful(Session):
    """Inverts, and keeps no feeds as fakes do."""

    inputs, outputs = FakeSession(lambda image: {}).inputs, FakeSession(lambda image: {}).outputs

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"result": 255 - feeds["image"]}

    def close(self) -> None:
        pass


def test_pixels_are_free_when_their_caller_is_gone_and_do_not_wait_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        with batched(Forgetful()) as network:
            feed = picture(1)
            result = network.run({"image": feed})["result"]
            left = [weakref.ref(feed), weakref.ref(result)]
            del feed, result
            assert [one() for one in left] == [None, None]
    finally:
        gc.enable()


def test_a_batch_of_one_caller_comes_back_as_it_went() -> None:
    with batched(inverted()) as network:
        images = np.concatenate([picture(value) for value in range(5)])
        np.testing.assert_array_equal(network.run({"image": images})["result"], 255 - images)


def test_rows_of_several_callers_run_together_where_it_pays() -> None:
    session = inverted()
    gate = Gate(session)
    with batched(gate, exact=False) as network:
        pay(network)
        results = together(network, gate, [picture(value) for value in range(1, 5)])
    assert [int(result[0, 0, 0, 0]) for result in results] == [254, 253, 252, 251]
    assert [shape[0] for shape in session.shapes] == [1, 4]


def test_they_run_alone_where_it_does_not_pay() -> None:
    session = inverted()
    gate = Gate(session)
    with batched(gate) as network:
        pay(network, a=1.0, b=0.0)
        together(network, gate, [picture(value) for value in range(1, 5)])
        assert network.describe().startswith("batches do not pay")
    assert [shape[0] for shape in session.shapes] == [1] * 5


def test_where_a_smaller_picture_does_not_pay_a_larger_one_is_not_tried() -> None:
    session = inverted()
    gate = Gate(session)
    with batched(gate) as network:
        pay(network, side=4, a=1.0, b=0.0)
        together(network, gate, [picture(1), picture(2)])
    assert [shape[0] for shape in session.shapes] == [1] * 3


def test_a_trial_comes_after_eight_rows_alone() -> None:
    """So a photo of a few faces pays for none; each trial of two is compared, and the second is timed."""
    session = inverted(Strain(run_s=0.01))
    with batched(session) as network:
        for _ in range(7):
            network.run({"image": np.concatenate([picture(1), picture(2)])})
    assert [shape[0] for shape in session.shapes[:12]] == [*[1] * 8, 2, 1, 1, 1]
    assert [shape[0] for shape in session.shapes].count(2) == 1


def test_a_shape_is_forgotten_when_many_others_came() -> None:
    """Photos have as many sizes as there are people: what is remembered of each may not add up."""
    session = inverted()
    with batched(session) as network:
        for side in (*range(4, 70), 4):
            pay(network, side)
            network.run({"image": np.concatenate([picture(1, side)] * 2)})
    assert [shape[0] for shape in session.shapes] == [2, 1, 1] * 67


def test_shapes_are_kept_apart() -> None:
    session = inverted()
    gate = Gate(session)
    with batched(gate, exact=False) as network:
        pay(network)
        results = together(network, gate, [picture(1), picture(2, 16), picture(3)])
    assert [result.shape[1] for result in results] == [8, 16, 8]
    assert sorted(shape[:2] for shape in session.shapes) == [(1, 4), (1, 16), (2, 8)]


def test_a_batch_that_gives_other_bits_is_not_given_out_and_not_tried_again() -> None:
    """Of a network whose rows depend on how many there are."""
    session = image_session(lambda image: image + np.uint8(len(image) - 1))
    gate = Gate(session)
    with batched(gate) as network:
        pay(network)
        results = together(network, gate, [picture(10), picture(20)])
        assert [int(result[0, 0, 0, 0]) for result in results] == [10, 20]
        assert network.describe() == "rows run alone: a batch gave other bits"
        seen = len(session.shapes)
        network.run({"image": np.concatenate([picture(1), picture(2)])})
        assert [shape[0] for shape in session.shapes[seen:]] == [1, 1]


def test_whoever_wants_it_so_gets_other_bits() -> None:
    gate = Gate(image_session(lambda image: image + np.uint8(len(image) - 1)))
    with batched(gate, exact=False) as network:
        pay(network)
        results = together(network, gate, [picture(10), picture(20)])
    assert [int(result[0, 0, 0, 0]) for result in results] == [11, 21]


def test_a_batch_is_compared_once_for_its_size() -> None:
    session = inverted(Strain(run_s=0.02))
    with batched(session) as network:
        pay(network, a=0.0, b=0.02)
        images = np.concatenate([picture(1), picture(2)])
        for _ in range(2):
            np.testing.assert_array_equal(network.run({"image": images})["result"], 255 - images)
    assert [shape[0] for shape in session.shapes] == [2, 1, 1, 2]


def test_out_of_memory_halves_the_batch_remembers_and_loses_nothing() -> None:
    session = inverted(Strain(most_pixels=3 * SIDE * SIDE))
    images = np.concatenate([picture(value) for value in range(8)])
    with batched(session, room=Room(Budget(given=10**9), Need(0, 1, "measured")), exact=False) as network:
        pay(network, sizes=(1, 2, 4, 8))
        for _ in range(2):
            np.testing.assert_array_equal(network.run({"image": images})["result"], 255 - images)
        assert "memory ran out at 256 pixels at once" in network.describe()
    assert [shape[0] for shape in session.shapes] == [8, 4, 2, 2, 4, 2, 2, *[2] * 4]


def test_what_was_refused_is_tried_again_after_a_while() -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    assert (refusals.pixels, refusals.rows(10)) == (None, None)
    refusals.remember(100)
    refusals.remember(80)
    assert (refusals.pixels, refusals.rows(10), refusals.rows(100)) == (80, 7, 0)
    now = 59.0
    assert refusals.rows(10) == 7
    now = 60.0
    assert refusals.rows(10) == 15
    refusals.remember(160)  # it is still so: believed twice as long
    now = 179.0
    assert refusals.rows(10) == 15
    now = 180.0
    assert refusals.rows(10) == 31
    now = 1e9
    assert (refusals.rows(10) or 0) > 10**9


def test_a_network_that_was_refused_tries_larger_batches_later() -> None:
    now = 0.0
    strain = Strain(most_pixels=2 * SIDE * SIDE, run_s=0.01)
    session = inverted(strain)
    images = np.concatenate([picture(value) for value in range(4)])
    room = Room(Budget(given=10**9), Need(0, 1, "measured"))
    with batched(session, room=room, exact=False) as network:
        network._refusals = Refusals(lambda: now)
        pay(network, a=0.0, b=0.01)
        for _ in range(2):
            network.run({"image": images})
        assert [shape[0] for shape in session.shapes] == [4, 2, 2, 2, 2]
        now, session._strain = 61.0, Strain(run_s=0.01)  # a neighbour has ended
        network.run({"image": images})
    assert session.shapes[-1][0] == 4


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_many_callers_of_several_shapes_all_get_their_own(lanes: int) -> None:
    """Whoever leaves the device wakes the next: nobody sleeps for ever, and no lane stays empty."""
    session = inverted(Strain(run_s=0.001))
    device = Device(lanes)
    network = Batched(session, device, "net", exact=False)

    def one(n: int) -> int:
        with device.visit():
            value, side, rows = n % 256, (4, 8, 16)[n % 3], 1 + n % 4
            made = network.run({"image": picture(value, side).repeat(rows, axis=0)})["result"]
            assert made.shape == (rows, side, side, 3)
            return 255 - int(made[rows - 1, 0, 0, 0])

    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(one, range(600), timeout=60)) == [n % 256 for n in range(600)]
    assert (device._rows, device._running, device.inside) == ([], set(), 0)
    device.close()


def test_out_of_memory_at_one_row_is_a_sentence_for_its_caller() -> None:
    with (
        batched(inverted(Strain(most_pixels=10))) as network,
        pytest.raises(OutOfMemory, match="ran out in net at a sin"),
    ):
        network.run({"image": picture(1)})


def test_an_error_reaches_the_callers_of_its_rows_alone() -> None:
    def fails(feeds: Mapping[str, Tensor]) -> Exception | None:
        return EngineError("this picture is cursed") if (feeds["image"] == 13).any() else None

    gate = Gate(inverted(Strain(fails=fails)))
    with batched(gate, exact=False) as network:
        pay(network)
        results = together(network, gate, [picture(1), picture(13), picture(3), picture(4)])
    assert isinstance(results[1], EngineError)
    assert [int(result[0, 0, 0, 0]) for result in (results[0], *results[2:])] == [254, 252, 251]


def test_a_bug_reaches_them_too() -> None:
    with batched(inverted(Strain(fails=lambda feeds: ZeroDivisionError("a bug")))) as network:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            network.run({"image": picture(1)})
        network._session = inverted()
        network.run({"image": picture(1)})  # and the device goes on


def test_a_caller_of_one_row_does_not_wait_for_all_of_another() -> None:
    """Fair queueing: the row of the second caller runs after at most one of the first, who came before with ten."""
    order: list[int] = []

    def note(feeds: Mapping[str, Tensor]) -> None:
        order.extend(int(row[0, 0, 0]) for row in feeds["image"])

    gate = Gate(inverted(Strain(fails=note)))
    with batched(gate) as network:
        pay(network, a=1.0, b=0.0)
        together(network, gate, [np.concatenate([picture(1)] * 10), picture(2)])
    assert order.index(2) <= 2


def test_what_the_room_has_no_place_for_is_refused_in_one_sentence() -> None:
    room = Room(Budget(given=1000), Need(0, 10, "measured"))
    with batched(inverted(), room=room) as network:
        with pytest.raises(
            PhotoTooLarge, match="0.00 megapixels in net, the budget of 0 MiB has room for 0.00: shrink"
        ):
            network.run({"image": picture(1, 16)})
        network.run({"image": picture(1)})


def test_the_room_bounds_batches() -> None:
    session = inverted()
    with batched(session, room=Room(Budget(given=3 * SIDE * SIDE), Need(0, 1, "measured")), exact=False) as network:
        pay(network)
        assert network.rows_at_once(SIDE * SIDE) == 3
        network.run({"image": np.concatenate([picture(value) for value in range(6)])})
    assert [shape[0] for shape in session.shapes] == [2, 2, 2]


def test_rows_of_a_flow_are_handed_over_as_they_fit() -> None:
    with batched(inverted()) as network:
        rows = ({"image": picture(value)[0]} for value in range(7))
        assert [int(row["result"][0, 0, 0]) for row in run_rows(network, rows)] == [255 - value for value in range(7)]


def test_feeds_that_make_no_rows_are_refused_by_the_engine_itself() -> None:
    def refuse(feeds: Mapping[str, Tensor]) -> Exception:
        return EngineError("wrong feeds")

    with batched(inverted(Strain(fails=refuse))) as network, pytest.raises(EngineError, match="wrong feeds"):
        network.run({"image": picture(1), "other": np.zeros((2, 3), np.float32)})
