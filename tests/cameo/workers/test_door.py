"""Who a crew lets in: by its queue, by what calls took so far, and by what it learns meanwhile."""

from __future__ import annotations

import time

import pytest

from cameo.errors import Busy, Late
from cameo.workers.crew import Crew
from tests.cameo.workers.conftest import Firm, call
from tests.support.served import png, wait_for


def test_a_full_queue_is_told_at_the_door_and_when_to_come_back(firm: Firm) -> None:
    crew = firm.crew(queue=2)
    for name in "ab":
        crew.submit(call(name), 10)
    with pytest.raises(Busy, match="2 photos are inside already.*: try again in 1 s") as refused:
        crew.submit(call(), 10)
    assert (refused.value.reason, refused.value.retry_after_s) == ("full", 1)


def test_the_door_can_be_asked_before_the_photo_is_there(firm: Firm) -> None:
    crew = firm.crew(queue=3)
    learned(firm, crew, 0.3)
    crew.check_door(0.01)  # nobody is before it
    crew.submit(call("a"), 10)
    firm.inside("a")
    crew.check_door(0.01)  # it would go straight inside
    crew.submit(call("b"), 10)
    firm.inside("a", "b")
    crew.check_door(10)
    with pytest.raises(Busy) as refused:
        crew.check_door(0.01)
    assert refused.value.reason == "late"
    crew.submit(call("c"), 10)
    with pytest.raises(Busy) as refused:
        crew.check_door(10)
    assert refused.value.reason == "full"


def learned(firm: Firm, crew: Crew, seconds: float) -> None:
    """Let the crew see that a call takes so long."""
    for name in ("first", "second"):
        answer = crew.submit(call(name), 10)
        firm.inside(name)
        time.sleep(seconds)
        firm.worker.answer(name)
        answer.result(5)


def test_what_would_come_too_late_is_refused_by_what_calls_took(firm: Firm) -> None:
    crew = firm.crew()
    learned(firm, crew, 0.3)
    for name in "abcd":
        crew.submit(call(name), 10)
    assert 0.9 < crew.state().wait_s < 2.4
    said = r"4 photos are inside, so that this one might take (1\.[5-9]|2.*) s of the 0\.5 s that it may: try again"
    with pytest.raises(Busy, match=said) as refused:
        crew.submit(call(), 0.5)
    assert refused.value.reason == "late"
    assert crew.submit(call(), 10)


def test_one_that_goes_straight_inside_does_not_wait_for_its_neighbour(firm: Firm) -> None:
    """Two seconds each, always: beside one that has just begun it takes four at most, and not six."""
    crew = firm.crew()
    for _ in range(50):
        crew._forecast._cost(call()).learn(0.001, 2)
    crew.submit(call("a"), 10)
    firm.inside("a")
    with pytest.raises(Busy, match="1 photo is inside, so that this one might take 4.1 s of the 3 s that it may"):
        crew.submit(call("b"), 3)
    assert crew.submit(call("b"), 4.2)


def test_what_was_let_in_before_anything_was_known_is_turned_away_as_soon_as_it_is(firm: Firm) -> None:
    """0.3 s each, one at a time: of six for which there is a second and a half, the last come too late."""
    crew = firm.crew(in_flight=1)
    answers = [crew.submit(call(name), 1.5) for name in "abcdef"]
    firm.inside("a")
    time.sleep(0.3)
    firm.worker.answer("a")
    with pytest.raises(Busy, match="so that this one might take .* s of the 1.2 s that it may: try again"):
        answers[-1].result(0.3)
    assert answers[0].result(1)
    firm.inside("b")
    assert not answers[2].done()


def test_what_never_comes_in_time_is_learned_as_well(firm: Firm) -> None:
    """Else a server whose photos all take too long would let in as many as it can hold, for ever."""
    crew = firm.crew(in_flight=1, grace_s=10)
    with pytest.raises(Late):
        crew.submit(call("a"), 0.2).result(5)
    time.sleep(0.2)
    firm.worker.answer("a")
    wait_for(lambda: crew.state().inside == 0)
    crew.submit(call("b"), 0.2)
    with pytest.raises(Busy, match="might take"):
        crew.submit(call("c"), 0.2)


def test_who_hangs_up_at_once_teaches_nothing_that_was_known_better(firm: Firm) -> None:
    crew = firm.crew()
    learned(firm, crew, 0.3)
    before = crew._forecast.usual_s(call(), 0.001)
    crew.submit(call("gone"), 10).cancel()
    answer = crew.submit(call("hung"), 10)
    firm.inside("hung")
    answer.cancel()
    wait_for(lambda: firm.worker.given_up == ["hung"])
    firm.worker.answer("hung")
    wait_for(lambda: crew.state().inside == 0)
    assert crew._forecast.usual_s(call(), 0.001) == before


def test_the_door_allows_for_a_machine_that_is_slower_under_load(firm: Firm) -> None:
    """Ten seconds each, always: nine before it take 90, it and its neighbour 20, and of the 90 a twentieth more."""
    crew = firm.crew()
    for _ in range(50):
        crew._forecast._cost(call()).learn(0.001, 10)
    for name in "abcdefghi":
        crew.submit(call(name), 1000)
    with pytest.raises(Busy, match="might take 114.5 s of the 112 s"):
        crew.submit(call(), 112)
    assert crew.submit(call(), 117)


def test_a_large_photo_after_tiny_ones_is_let_in(firm: Firm) -> None:
    """What tiny ones took says little of it, and is no reason to turn it away."""
    crew = firm.crew()
    learned(firm, crew, 0.1)
    crew.submit(call("a"), 10)
    assert crew.submit(call("b", png(9, (1000, 1000))), 10)
    assert crew.state().wait_s < 1


def test_calls_that_share_a_worker_are_charged_their_share_of_it(firm: Firm) -> None:
    """Two at once for 0.4 s are 0.2 s each: a third waits 0.4 s for both, not 0.8."""
    crew = firm.crew()
    for round in range(2):
        answers = [crew.submit(call(f"{round}{name}"), 10) for name in "ab"]
        firm.inside(f"{round}a", f"{round}b")
        time.sleep(0.4)
        for name in "ab":
            firm.worker.answer(f"{round}{name}")
        assert all(answer.result(5) for answer in answers)
    firm.crew()
    for name in "ab":
        crew.submit(call(name), 10)
    assert 0.3 < crew.state().wait_s < 0.6
