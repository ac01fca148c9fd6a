"""A crew with workers of the test's making: what it takes is answered once, whatever becomes of its workers."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import Future

import pytest

from cameo.errors import BundleError, Busy, EngineError, Late, PhotoError
from cameo.workers.breaker import Breaker
from cameo.workers.calls import Answer, Call
from cameo.workers.crew import FAILURES
from tests.cameo.workers.conftest import Firm, Worker, call
from tests.support.served import wait_for


def test_calls_are_answered_in_their_turn_a_few_of_them_inside(firm: Firm) -> None:
    crew = firm.crew()
    answers = {name: crew.submit(call(name), 10) for name in "abcd"}
    firm.inside("a", "b")
    assert (crew.state().waiting, crew.state().inside) == (2, 2)
    firm.worker.answer("b")
    firm.inside("a", "c")
    made = answers["b"].result(5)
    assert made.content == b"b"
    assert set(made.seconds) == {"waited", "ran"}
    for name in "acd":
        wait_for(lambda name=name: name in firm.worker.inside)  # type: ignore[misc]
        firm.worker.answer(name)
        assert answers[name].result(5).content == name.encode()


def test_our_errors_come_back(firm: Firm) -> None:
    answer = firm.crew().submit(call(), 10)
    firm.inside("a")
    firm.worker.answer("a", PhotoError("it is no photo"))
    with pytest.raises(PhotoError, match="it is no photo"):
        answer.result(5)


def test_who_waits_past_the_deadline_is_told_and_never_run(firm: Firm) -> None:
    crew = firm.crew(in_flight=1)
    crew.submit(call("a"), 10)
    late = crew.submit(call("b"), 0.1)
    with pytest.raises(Late, match="no result within 0.1 s, in which the photo waited: try again"):
        late.result(5)
    firm.worker.answer("a")
    time.sleep(0.1)
    assert not firm.worker.inside


def test_a_call_that_runs_past_its_deadline_is_told_and_given_up(firm: Firm) -> None:
    crew = firm.crew(in_flight=1, grace_s=10)
    late, next_one = crew.submit(call("a"), 0.1), crew.submit(call("b"), 10)
    with pytest.raises(Late, match="in which the photo ran"):
        late.result(5)
    wait_for(lambda: firm.worker.given_up == ["a"])
    firm.worker.answer("a")  # which nobody hears
    firm.inside("b")
    firm.worker.answer("b")
    assert next_one.result(5)
    assert not firm.worker.killed


def test_a_wedged_worker_is_killed_and_the_others_run_again(firm: Firm) -> None:
    crew = firm.crew()
    late, other = crew.submit(call("a"), 0.1), crew.submit(call("b"), 10)
    wedged = firm.hired[0]
    with pytest.raises(Late):
        late.result(5)
    wait_for(lambda: len(firm.hired) == 2)
    assert wedged.killed
    firm.inside("b")
    firm.worker.answer("b")
    assert other.result(5)
    assert crew.state().seats[0].restarts == 1


def test_a_call_that_is_cancelled_is_dropped_or_given_up(firm: Firm) -> None:
    crew = firm.crew(in_flight=1, grace_s=10)
    runs, waits, last = (crew.submit(call(name), 10) for name in "abc")
    firm.inside("a")
    assert waits.cancel()
    assert runs.cancel()
    wait_for(lambda: firm.worker.given_up == ["a"])
    wait_for(lambda: crew.state().waiting == 1)
    firm.worker.answer("a", EngineError("given up"))
    firm.inside("c")
    firm.worker.answer("c")
    assert last.result(5)


def test_a_task_that_is_cancelled_cancels_its_call(firm: Firm) -> None:
    crew = firm.crew(grace_s=10)

    async def impatient() -> None:
        await asyncio.wait_for(asyncio.wrap_future(crew.submit(call(), 10)), 0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    wait_for(lambda: firm.worker.given_up == ["a"])


def test_calls_of_a_dead_worker_come_first_and_run_alone(firm: Firm) -> None:
    crew = firm.crew()
    answers = {name: crew.submit(call(name), 10) for name in "abcd"}
    firm.inside("a", "b")
    firm.worker.die()
    for alone in "ab":
        wait_for(lambda: len(firm.hired) == 2)
        firm.inside(alone)
        firm.worker.answer(alone)
        assert answers[alone].result(5)
    firm.inside("c", "d")


def test_a_photo_that_kills_workers_takes_no_other_with_it(firm: Firm) -> None:
    crew = firm.crew()
    killer, other = crew.submit(call("a"), 10), crew.submit(call("b"), 10)
    for deaths in (1, 2):
        wait_for(lambda: len(firm.hired) == deaths and "a" in firm.worker.inside)  # noqa: B023
        firm.worker.die()
    with pytest.raises(EngineError, match=r"ended twice while it had this photo \(the worker ended by signal 9\)"):
        killer.result(5)
    firm.inside("b")
    firm.worker.answer("b")
    assert other.result(5)


def test_a_breaker_opens_probes_and_closes(firm: Firm) -> None:
    breakers: list[Breaker] = []

    def breaker() -> Breaker:
        breakers.append(Breaker(deaths=2, pause_s=0.3))
        return breakers[-1]

    crew = firm.crew(breaker=breaker)
    accepted = crew.submit(call("a"), 10)
    firm.inside("a")
    firm.next = [lambda: Worker(EngineError("no GPU")), lambda: Worker(EngineError("no GPU"))]
    firm.worker.die()
    wait_for(lambda: crew.state().seats[0].breaker == "open")
    with pytest.raises(Busy, match="workers ended again and again") as refused:
        crew.submit(call(), 10)
    assert refused.value.reason == "broken"
    assert not crew.state().ready
    wait_for(lambda: len(firm.hired) == 4)  # the second try fails as well, the third does not
    assert breakers[0].state == "half-open"
    firm.inside("a")
    other = crew.submit(call("b"), 10)
    time.sleep(0.05)
    firm.inside("a")  # alone
    firm.worker.answer("a")
    assert accepted.result(5)
    firm.inside("b")
    assert crew.state().seats[0].breaker == "closed"
    firm.worker.answer("b")
    assert other.result(5)


def test_a_worker_that_only_fails_is_replaced(firm: Firm) -> None:
    """Some errors of a GPU last as long as its process."""
    crew = firm.crew(in_flight=1)
    for number in range(FAILURES):
        answer = crew.submit(call(), 10)
        firm.inside("a")
        firm.worker.answer("a", EngineError(f"an illegal memory access {number}"))
        with pytest.raises(EngineError, match=f"{number}"):
            answer.result(5)
    wait_for(lambda: len(firm.hired) == 2)
    assert firm.hired[0].killed


def test_the_first_worker_says_why_it_cannot_open_its_models(firm: Firm, caplog: pytest.LogCaptureFixture) -> None:
    """Who opens the crew is told: nothing was replaced."""
    firm.next = [lambda: Worker(BundleError("there is no bundle"))]
    with pytest.raises(BundleError, match="there is no bundle"):
        firm.crew().open()
    assert caplog.messages == []


def test_only_a_worker_that_had_opened_is_said_to_be_replaced(firm: Firm, caplog: pytest.LogCaptureFixture) -> None:
    crew = firm.crew()
    crew.open()
    firm.next = [lambda: Worker(BundleError("there is no bundle"))]
    firm.worker.die()
    wait_for(lambda: len(firm.hired) > 1 and len(caplog.messages) > 1)
    replaced, failed = caplog.messages[:2]
    assert replaced == "a worker is replaced: the worker ended by signal 9"
    assert failed == "a worker could not start: there is no bundle"


def test_a_worker_that_cannot_be_started_counts_as_dead(firm: Firm) -> None:
    def no_memory() -> Worker:
        raise OSError("cannot allocate memory")

    firm.next = [no_memory]
    crew = firm.crew()
    with pytest.raises(EngineError, match="the worker could not start: cannot allocate memory"):
        crew.open()
    assert crew.submit(call(), 10)
    wait_for(lambda: bool(firm.hired))
    firm.inside("a")


def test_a_worker_that_never_opens_its_models_is_replaced(firm: Firm) -> None:
    firm.next = [lambda: Worker(opens=False)]
    crew = firm.crew(start_s=0.1)
    answer = crew.submit(call(), 10)
    wait_for(lambda: len(firm.hired) == 2)
    assert firm.hired[0].killed
    firm.inside("a")
    firm.worker.answer("a")
    assert answer.result(5)


def test_a_thread_that_cannot_be_started_is_no_end_of_the_crew(firm: Firm) -> None:
    def no_thread() -> Worker:
        raise RuntimeError("can't start new thread")

    firm.next = [Worker, no_thread]
    crew = firm.crew()
    answer = crew.submit(call(), 10)
    firm.inside("a")
    firm.worker.die()
    wait_for(lambda: len(firm.hired) == 2)
    firm.inside("a")
    firm.worker.answer("a")
    assert answer.result(5)


class Buggy(Worker):
    """Fails in a way that no worker should, whatever it is asked."""

    def start(self, call: Call) -> Future[Answer]:
        raise TypeError("a bug in start")

    def give_up(self, call: Call) -> None:
        raise TypeError("a bug in give_up")


def test_a_bug_at_a_call_is_that_calls_error(firm: Firm) -> None:
    firm.next = [Buggy]
    crew = firm.crew()
    for _ in range(2):
        with pytest.raises(TypeError, match="a bug in start"):
            crew.submit(call(), 10).result(5)


def test_a_bug_is_logged_and_the_crew_goes_on(firm: Firm, caplog: pytest.LogCaptureFixture) -> None:
    crew = firm.crew(in_flight=1, grace_s=10)
    crew.open()
    firm.worker.give_up = Buggy().give_up  # type: ignore[method-assign]
    late, next_one = crew.submit(call("a"), 0.1), crew.submit(call("b"), 10)
    with pytest.raises(Late):
        late.result(5)
    wait_for(lambda: "a bug in give_up" in caplog.text)
    firm.worker.answer("a")
    firm.inside("b")
    firm.worker.answer("b")
    assert next_one.result(5)


def test_a_bug_in_a_step_is_logged_and_deadlines_are_kept(
    firm: Firm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = firm.crew()
    crew.open()
    monkeypatch.setattr(crew, "_hand_out", lambda job, seat: 1 / 0)
    for name in "ab":
        with pytest.raises(Late):
            crew.submit(call(name), 0.2).result(5)
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    answer = crew.submit(call("c"), 10)
    firm.inside("c")
    firm.worker.answer("c")
    assert answer.result(5)


def test_what_a_killed_worker_cancels_runs_again(firm: Firm) -> None:
    """As threads of this process do with what they have not begun."""
    crew = firm.crew()
    answer = crew.submit(call(), 10)
    firm.inside("a")
    first = firm.worker
    first.inside["a"].cancel()
    first.inside["a"].set_running_or_notify_cancel()
    time.sleep(0.05)
    first.die()
    wait_for(lambda: len(firm.hired) == 2)
    firm.inside("a")
    firm.worker.answer("a")
    assert answer.result(5)


def test_two_workers_share_the_queue_and_one_goes_on_without_the_other(firm: Firm) -> None:
    crew = firm.crew(seats=2, in_flight=1)
    wait_for(lambda: len(firm.hired) == 2)
    answers = {name: crew.submit(call(name), 10) for name in "ab"}
    wait_for(lambda: all(worker.inside for worker in firm.hired))
    dead, other = firm.hired
    firm.next = [lambda: Worker(opens=False)]
    dead.die()
    own = next(iter(other.inside))
    other.answer(own)
    left = "b" if own == "a" else "a"
    wait_for(lambda: left in other.inside)
    other.answer(left)
    assert all(answer.result(5) for answer in answers.values())


def test_closing_finishes_what_was_taken(firm: Firm) -> None:
    crew = firm.crew(in_flight=1)
    answers = {name: crew.submit(call(name), 10) for name in "ab"}
    closed: Future[bool] = Future()
    thread = threading.Thread(target=lambda: closed.set_result(crew.close(10)))
    thread.start()
    firm.inside("a")
    with pytest.raises(Busy, match="the server is ending") as refused:
        crew.submit(call(), 10)
    assert refused.value.reason == "ending"
    for name in "ab":
        firm.inside(name)
        firm.worker.answer(name)
        assert answers[name].result(5)
    assert closed.result(5)
    thread.join()
    assert (firm.worker.ended, firm.worker.killed) == (True, False)


def test_closing_has_patience_only_so_long(firm: Firm) -> None:
    crew = firm.crew()
    answer = crew.submit(call(), 10)
    firm.inside("a")
    assert not crew.close(0.1)
    assert firm.worker.killed
    with pytest.raises(EngineError, match="the server ended before the photo was done"):
        answer.result(5)


class Busybody(Worker):
    """Answers every call after a moment, in a thread of its own, unless it is dead by then."""

    def start(self, call: Call) -> Future[Answer]:
        answer = super().start(call)
        threading.Timer(random.uniform(0.001, 0.02), self._answer, [call.fields["name"]]).start()
        return answer

    def _answer(self, name: str) -> None:
        if not (self.died.done() or self.killed) and name in self.inside:
            self.answer(name)


def test_every_call_is_answered_once_while_workers_die(firm: Firm) -> None:
    firm.next = [Busybody] * 100
    crew = firm.crew(queue=500, in_flight=3, breaker=lambda: Breaker(deaths=1000))
    heard: list[str] = []
    answers = [crew.submit(call(str(number)), 20) for number in range(200)]
    for number, answer in enumerate(answers):
        answer.add_done_callback(lambda _, number=number: heard.append(str(number)))  # type: ignore[misc]
    for _ in range(20):
        time.sleep(random.uniform(0.01, 0.05))
        worker = firm.worker
        if not worker.died.done():
            worker.die()
        wait_for(lambda worker=worker: firm.worker is not worker, 10)  # type: ignore[misc]
    made = [answer.exception(20) or answer.result() for answer in answers]
    assert sorted(heard, key=int) == [str(number) for number in range(200)]
    twice = [one for one in made if isinstance(one, Exception)]
    assert all("ended twice" in str(one) for one in twice)
    assert len(twice) <= 20
    good = [one.content.decode() for one in made if isinstance(one, Answer)]
    assert good == [str(number) for number, one in enumerate(made) if isinstance(one, Answer)]
