"""What a batch costs is learned, and what pays follows from it."""

from __future__ import annotations

import sys
import threading

import pytest

from cameo.batching.cost import LARGEST, Cost
from cameo.learned_line import FURTHEST, WINDOW, LearnedLine


def learned(a: float, b: float, sizes: tuple[int, ...] = (1, 2), rounds: int = 4) -> Cost:
    cost = Cost()
    for _ in range(rounds):
        for n in sizes:
            cost.learn(n, a * n + b)
    return cost


def test_the_line_is_found() -> None:
    line = learned(0.02, 0.03).line
    assert line == pytest.approx((0.02, 0.03))


def test_the_first_of_a_size_loads_or_compiles_and_counts_for_nothing() -> None:
    cost = Cost()
    cost.learn(1, 100.0)
    cost.learn(2, 100.0)
    assert cost.line is None
    for _ in range(2):
        cost.learn(1, 0.05)
        cost.learn(2, 0.06)
    assert cost.line == pytest.approx((0.01, 0.04))


def test_neither_number_is_below_nothing() -> None:
    cost = Cost()
    for n, seconds in ((1, 0.05), (2, 0.2)) * 4:
        cost.learn(n, seconds)
    assert cost.line is not None
    assert cost.line.b >= 0
    assert cost.worth() == 1


def test_one_slow_moment_is_no_answer() -> None:
    """What else the machine does only adds: of each size the shortest counts, and a batch is timed three times."""
    cost = Cost()
    for n, seconds in ((1, 0.04), (1, 0.04), (2, 0.06), (2, 0.2), (2, 0.3)):
        cost.learn(n, seconds)
    assert (cost.pays, cost.worth()) == (None, 2)
    cost.learn(2, 0.06)
    assert cost.line == pytest.approx((0.02, 0.02))
    assert (cost.pays, cost.worth()) == (True, 4)


@pytest.mark.parametrize(("b", "worth"), [(0.0, 1), (0.1, 1), (0.2, 2), (3.0, 4)])
def test_doubling_pays_while_a_row_gets_a_twentieth_cheaper(b: float, worth: int) -> None:
    """From (1, 2), no more than twice what was seen."""
    cost = learned(1.0, b)
    assert cost.worth() == worth
    assert cost.pays == (worth > 1)


def test_batches_grow_by_what_was_seen_up_to_a_limit() -> None:
    cost, n = learned(0.0, 1.0), 2
    while n < LARGEST:
        n *= 2
        assert cost.worth() == n
        cost.learn(n, 1.0)
        cost.learn(n, 1.0)
    assert cost.worth() == LARGEST


def test_what_does_not_pay_is_asked_again_after_fifty_runs() -> None:
    cost = learned(1.0, 0.0)
    assert cost.worth() == 1
    for _ in range(WINDOW):
        cost.learn(1, 1.0)
    assert cost.pays is None
    assert cost.worth() == 2


def test_without_single_rows_one_is_asked_for() -> None:
    """Else no line is ever known where two always wait."""
    cost = Cost()
    for _ in range(3):
        cost.learn(2, 1.0)
    assert cost.worth() == 1


def test_waiting_pays_while_the_gap_of_all_is_below_what_a_run_costs() -> None:
    cost = learned(0.01, 0.06)
    assert cost.patience_s(1, 0.02) == pytest.approx(0.06)
    assert cost.patience_s(2, 0.02) == pytest.approx(0.03)
    assert cost.patience_s(3, 0.02) == 0
    assert cost.patience_s(cost.worth(), 0.0) == 0
    assert Cost().patience_s(1, 0.0) == 0


def test_variance_is_what_the_line_does_not_tell() -> None:
    line = LearnedLine()
    assert line.variance == 0
    for x in (1.0, 2.0, 3.0):
        for off in (-0.5, 0.5):
            line.learn(x, 2 * x + 1 + off)
    assert line.usual(4) == pytest.approx(9)
    assert line.variance == pytest.approx(0.25)


@pytest.mark.parametrize("sizes", [(1.0,), (1.0, 2.0)])
def test_a_line_is_believed_so_far_and_no_further(sizes: tuple[float, ...]) -> None:
    """Else the first large photo after tiny ones seems to take minutes."""
    line = LearnedLine()
    for x in sizes:
        line.learn(x, 3 * x)
    furthest = FURTHEST * max(sizes)
    assert line.usual(0.9 * furthest) == pytest.approx(2.7 * furthest)
    assert line.usual(1000) == pytest.approx(3 * furthest)


def test_what_pays_can_be_asked_while_another_thread_learns() -> None:
    cost, over = learned(0.01, 0.03, rounds=WINDOW), threading.Event()

    def learn() -> None:
        while not over.is_set():
            cost.learn(1, 0.04)

    learning, interval = threading.Thread(target=learn), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    learning.start()
    try:
        for _ in range(10_000):
            assert cost.worth() in (1, 2, 4)
            assert cost.usual(2)
    finally:
        sys.setswitchinterval(interval)
        over.set()
        learning.join()
