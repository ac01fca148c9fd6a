"""A breaker with a clock of the test's."""

from __future__ import annotations

import pytest

from cameo.workers.breaker import CLOSED, HALF_OPEN, LONGEST_PAUSE_S, OPEN, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(deaths=3, within_s=60, pause_s=1, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed()


def test_few_deaths_leave_it_closed(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert (breaker.state, breaker.wait_s) == (CLOSED, 0)


def test_deaths_far_apart_leave_it_closed(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        clock.now += 31
        breaker.failed()
    assert breaker.state == CLOSED


def test_a_good_answer_between_deaths_forgets_them(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker, 2)
        breaker.succeeded()
    assert breaker.state == CLOSED


def test_deaths_in_a_row_open_it_and_a_good_answer_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    assert (breaker.state, breaker.wait_s) == (OPEN, 1)
    clock.now += 0.75
    assert breaker.wait_s == 0.25
    clock.now += 0.25
    breaker.try_one()
    assert (breaker.state, breaker.wait_s) == (HALF_OPEN, 0)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state == CLOSED


def test_every_try_that_fails_doubles_the_pause_up_to_a_limit(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    pauses = []
    for _ in range(8):
        pauses.append(breaker.wait_s)
        clock.now += breaker.wait_s
        breaker.try_one()
        breaker.failed()
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    clock.now += breaker.wait_s
    breaker.try_one()
    breaker.succeeded()
    fail(breaker, 3)
    assert breaker.wait_s == 1
