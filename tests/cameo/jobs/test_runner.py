"""Jobs go on whatever happens: a full disk, a busy server, an end amid the work."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cameo.errors import Busy, Late, OutputError
from cameo.jobs import runner as module
from cameo.jobs.job import Backlog, Job, JobOptions, Photo, Progress
from cameo.jobs.runner import Runner
from cameo.jobs.store import NAME, Store
from cameo.workers.calls import Call
from tests.cameo.jobs.fake import FakeCrew, add, packed
from tests.support.served import wait_for

Run = Callable[..., Runner]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(JobOptions(tmp_path / "jobs", spare_mib=0))
    yield store
    store.close()


@pytest.fixture
def crew() -> FakeCrew:
    return FakeCrew()


@pytest.fixture
def run(store: Store, crew: FakeCrew, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Starts runners, whose pauses are short."""
    monkeypatch.setattr(module, "_FULL_S", 0.02)
    runners = []

    def started(**options: Any) -> Runner:
        store.options = replace(store.options, **options)
        runners.append(Runner(store, crew.submit, {"gpen"}))
        return runners[-1]

    yield started
    crew.gate.set()
    for runner in runners:
        runner.close()


def ended(store: Store, job: str) -> bool:
    found = store.job(job)
    return found is not None and found.finished is not None


def statuses(store: Store, job: str) -> list[str]:
    return [result.status for _, result in store.results(job)]


def test_every_photo_has_a_result_or_a_sentence_why_not(store: Store, run: Run) -> None:
    job = add(store, {"a.jpg": b"abc", "b.jpg": b"bad", "sub/c.jpg": b"bug", "d.jpg": b"note"})
    run()
    wait_for(lambda: ended(store, job))
    results = dict(store.results(job))
    assert store.result(job, 0).read_bytes() == b"cba"
    assert (results[0].faces, results[0].result, results[3].note) == (2, "a.jpg.png", "left")
    assert results[1].error == "photo is not an image that can be read"
    assert results[2].error == "ZeroDivisionError: oh: report this"
    assert store.progress(job) == Progress(waiting=0, done=2, failed=2, faces=4)
    assert store.unfinished() == {}


def test_calls_are_what_the_job_asks_for(store: Store, crew: FakeCrew, run: Run) -> None:
    with store.receiving() as name:
        store.sent(name, "1").write_bytes(packed({"a.jpg": b"abc"}))
        store.sent(name, "2").write_bytes(b"a mask")
        call = Call("gpen", {}, {"alpha": "0.5"}, "fast", True, ".webp", 70)
        store.add(Job(name, "me", call, "photo", {"mask": "2"}, 1.0), [Photo(0, "a.jpg", "1", True, "a.webp")])
    run()
    wait_for(lambda: ended(store, name))
    (ran,) = crew.calls
    assert vars(ran) == {**vars(call), "files": {"photo": b"abc", "mask": b"a mask"}}


def test_few_photos_are_in_work_at_once_and_jobs_take_turns(store: Store, crew: FakeCrew, run: Run) -> None:
    crew.seconds = 0.005
    jobs = [add(store, {f"{n}.jpg": f"{job}{n}".encode() for n in range(8)}) for job in "xy"]
    run()
    wait_for(lambda: all(ended(store, job) for job in jobs))
    whose = [call.files["photo"][:1] for call in crew.calls]
    assert crew.most == 2
    ahead = [abs(whose[:at].count(b"x") - whose[:at].count(b"y")) for at in range(17)]
    assert max(ahead) <= 2


def test_a_new_job_is_begun_at_once(store: Store, run: Run) -> None:
    runner = run()
    job = add(store, {"a.jpg": b"abc"})
    runner.wake()
    wait_for(lambda: ended(store, job), 2)


def test_a_job_whose_model_is_not_served_waits(store: Store, run: Run) -> None:
    gone, here = add(store, {"a.jpg": b"abc"}, model="dctnet"), add(store, {"a.jpg": b"abc"})
    run()
    wait_for(lambda: ended(store, here))
    assert statuses(store, gone) == ["waiting"]


def test_a_busy_server_is_asked_again(store: Store, crew: FakeCrew, run: Run) -> None:
    crew.refuses += [Busy("8 photos wait: try again in 1 s", 0.3, "full"), Busy("still", 0.01, "full")]
    crew.gate.clear()
    job = add(store, {"a.jpg": b"abc"})
    runner = run()
    wait_for(lambda: runner.why != "")
    assert "photos wait" in runner.why
    assert crew.calls == []
    crew.gate.set()
    wait_for(lambda: ended(store, job))
    assert (statuses(store, job), runner.why) == (["done"], "")


def test_a_photo_that_failed_is_let_go_at_once(store: Store, crew: FakeCrew, run: Run) -> None:
    """Not when cycles are collected: photos are large, and Python's objects few."""
    gc.disable()
    try:
        job = add(store, {"a.jpg": b"bad"})
        run()
        wait_for(lambda: ended(store, job))
        photo = weakref.ref(crew.calls.pop())
        wait_for(lambda: photo() is None)
    finally:
        gc.enable()


def test_who_is_late_is_tried_once_more(store: Store, crew: FakeCrew, run: Run) -> None:
    crew.refuses += [Late("no result within 300 s"), Busy("not now", 0.0, "full")]
    job = add(store, {"a.jpg": b"abc"})
    runner = run(in_flight=1)
    wait_for(lambda: ended(store, job))
    crew.refuses += [Late("no result within 300 s")] * 2
    other = add(store, {"a.jpg": b"abc"})
    runner.wake()
    wait_for(lambda: ended(store, other))
    assert (statuses(store, job), statuses(store, other)) == (["done"], ["failed"])
    assert store.results(other)[0][1].error == "no result within 300 s"


@pytest.mark.parametrize("error", [FileNotFoundError("the folder is gone"), ZeroDivisionError("a bug")])
def test_an_error_that_nobody_expects_is_logged_and_jobs_go_on(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    left = [error] * 4

    def check_room() -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(store, "check_room", check_room)
    job = add(store, {"a.jpg": b"abc"})
    run()
    wait_for(lambda: ended(store, job))
    assert statuses(store, job) == ["done"]
    assert str(error) in caplog.text


FULL = "nothing can be written to the disk of jobs: the server's log says why"


def nothing_runs_until(free: Callable[[], None], store: Store, runner: Runner, job: str) -> None:
    """A disk that is full keeps photos waiting, none fails by it, and no file is left half-written."""
    wait_for(lambda: runner.why == FULL)
    time.sleep(0.1)
    assert set(statuses(store, job)) == {"waiting"}
    assert list(store.folder.glob("*/results/*")) == []
    free()
    wait_for(lambda: ended(store, job))
    assert statuses(store, job) == ["done"] * 4
    wait_for(lambda: runner.why == "")


FOUR = {f"{n}.jpg": b"abc" for n in range(4)}


def test_some_of_the_disk_is_left_to_others(
    store: Store, crew: FakeCrew, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = [511 * 2**20]
    monkeypatch.setattr("cameo.jobs.store.shutil.disk_usage", lambda _: SimpleNamespace(free=free[0]))
    job = add(store, FOUR)
    runner = run(spare_mib=512)
    wait_for(lambda: runner.why != "")
    assert crew.calls == []
    nothing_runs_until(partial(free.__setitem__, 0, 2**30), store, runner, job)
    assert "jobs wait: the disk of jobs has 511 MiB left, expected 512: free some space" in caplog.text


def test_photos_wait_while_results_cannot_be_written(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    job = add(store, FOUR)
    with monkeypatch.context() as patch:
        patch.setattr("cameo.images.writing.os.fsync", full)
        runner = run()
        nothing_runs_until(patch.undo, store, runner, job)
    assert "could not be written (No space left on device)" in caplog.text


def test_photos_wait_while_the_database_is_full(
    store: Store, crew: FakeCrew, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    job = add(store, {f"{n}.jpg": b"long" for n in range(4)})
    crew.gate.clear()
    runner = run()
    wait_for(lambda: crew.inside == 2)
    store._base.execute("PRAGMA max_page_count = 1")
    crew.gate.set()
    wait_for(lambda: runner.why == FULL)
    assert "cannot be used (database or disk is full): free some space" in caplog.text
    assert set(statuses(store, job)) == {"waiting"}
    store._base.execute("PRAGMA max_page_count = 1000000")
    wait_for(lambda: ended(store, job))
    assert statuses(store, job) == ["done"] * 4


def test_what_is_in_work_at_the_end_runs_the_next_time(store: Store, crew: FakeCrew, run: Run) -> None:
    crew.gate.clear()
    job = add(store, FOUR)
    runner = run()
    wait_for(lambda: crew.inside == 2)
    runner.close()
    assert statuses(store, job) == ["waiting"] * 4
    crew.gate.set()
    run()
    wait_for(lambda: ended(store, job))
    assert statuses(store, job) == ["done"] * 4


def test_a_job_is_removed_amid_its_work(store: Store, crew: FakeCrew, run: Run) -> None:
    crew.seconds = 0.05
    jobs = [add(store, {f"{n}.jpg": job for n in range(9)}) for job in (b"gone", b"stays")]
    runner = run()
    wait_for(lambda: store.progress(jobs[0]).done > 1)
    store.remove(jobs[0])
    runner.forget(jobs[0])
    ran = len(crew.calls)
    wait_for(lambda: ended(store, jobs[1]))
    assert not (store.folder / jobs[0]).exists()
    assert store.job(jobs[0]) is None
    assert {call.files["photo"] for call in crew.calls[ran:]} == {b"stays"}


def test_done_jobs_are_removed_in_time(store: Store, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_S", 0.02)
    done = add(store, {"a.jpg": b"abc"})
    waits = add(store, {"a.jpg": b"abc"}, model="dctnet")
    run(keep_hours=0.3 / 3600)
    wait_for(lambda: ended(store, done))
    wait_for(lambda: store.job(done) is None)
    wait_for(lambda: [path.name for path in store.folder.iterdir() if path.is_dir()] == [waits])


def test_it_says_how_long_it_will_take(store: Store, crew: FakeCrew, run: Run) -> None:
    """Beside a job that has more, half of the time goes to that."""
    crew.seconds = 0.05
    few, many = (add(store, {f"{n}.jpg": b"abc" for n in range(count)}) for count in (10, 60))
    runner = run(in_flight=1)
    assert runner.eta_s(few) is None
    wait_for(lambda: store.progress(few).done == 4)
    waiting = store.unfinished()
    eta_few, eta_many = runner.eta_s(few), runner.eta_s(many)
    assert eta_few is not None
    assert eta_many is not None
    assert 0.05 * 2 * (waiting[few] - 1) <= eta_few < 3 * 0.05 * 2 * waiting[few]
    assert eta_many > 3 * eta_few
    for job in (few, many):
        store.remove(job)
        runner.forget(job)


def test_photos_that_run_together_count_and_so_does_their_beginning(store: Store, crew: FakeCrew, run: Run) -> None:
    """Two at once end in the same moment, which is no reason to think that the others take no time."""
    crew.seconds, crew.answers = 0.4, 4
    job = add(store, {f"{n}.jpg": b"abc" for n in range(5)})
    runner = run(in_flight=2)
    wait_for(lambda: store.progress(job).done == 2)
    assert 0.3 <= (runner.eta_s(job) or 0) <= 0.8  # three are left: 0.6
    wait_for(lambda: store.progress(job).done == 4)
    time.sleep(0.5)
    assert runner.eta_s(job) == 0.1, "the last one runs, longer than any before"
    store.remove(job)
    assert runner.eta_s(job) is None
    runner.forget(job)


def test_a_photo_that_fails_at_once_tells_nothing(store: Store, crew: FakeCrew, run: Run) -> None:
    job = add(store, {"a.jpg": b"bad", "b.jpg": b"abc", "c.jpg": b"abc"})
    crew.answers = 1
    runner = run(in_flight=1)
    wait_for(lambda: store.progress(job).failed == 1)
    assert runner.eta_s(job) is None
    runner.forget(job)


def test_no_other_server_has_the_folder(store: Store) -> None:
    imports = "import sys; from pathlib import Path; from cameo.jobs.job import JobOptions; "
    other = imports + "from cameo.jobs.store import Store; Store(JobOptions(Path(sys.argv[1])))"
    ended = subprocess.run([sys.executable, "-c", other, store.folder], capture_output=True, text=True, timeout=60)
    assert "OutputError: jobs cannot be kept in" in ended.stderr
    assert "(another server keeps its own there): choose another folder" in ended.stderr


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="jobs cannot be kept in .*file .*: choose another folder"):
        Store(JobOptions(tmp_path / "file"))
    (tmp_path / NAME).write_bytes(b"no database" * 100)
    with pytest.raises(OutputError, match="file is not a database.: choose another folder"):
        Store(JobOptions(tmp_path))


def test_what_was_sent_for_no_job_is_removed_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / ("0" * 32)).mkdir()
    (tmp_path / "mine").mkdir()
    store = Store(JobOptions(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["mine"]
    with store.receiving() as name:
        store.sweep()
        assert store.sent(name, "").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["mine"]
    store.close()


class SlowlyCounted(set[str]):
    def __len__(self) -> int:
        counted = super().__len__()
        time.sleep(0.02)
        return counted


def test_the_last_place_is_taken_once(store: Store) -> None:
    """By threads that come at the same moment."""
    store.options, store._coming = replace(store.options, max_jobs=3), SlowlyCounted()
    tried = threading.Barrier(8)

    def enter() -> bool:
        try:
            with store.receiving():
                tried.wait(10)
                return True
        except Busy:
            tried.wait(10)
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: enter(), range(8))) == 3


def test_a_photo_of_a_job_that_was_removed_is_noted_nowhere(store: Store) -> None:
    job = add(store, {"a.jpg": b"abc", "b.jpg": b"bcd"})
    assert store.failed(job, 0, "it is no photo") == Progress(waiting=1, done=0, failed=1, faces=0)
    assert store.backlog() == {"gpen": Backlog(jobs=1, photos=1)}
    assert store.remove(job) == Progress(waiting=1, done=0, failed=1, faces=0)
    assert store.remove(job) == Progress(waiting=0, done=0, failed=0, faces=0)
    assert store.failed(job, 1, "it is no photo") is None
    assert store.backlog() == {}


def test_what_comes_after_the_sender_was_given_up_is_no_job(store: Store) -> None:
    with store.receiving() as name:
        pass
    with pytest.raises(OutputError, match="the server ends while the job is accepted: send it again"):
        store.add(Job(name, "", Call("gpen", {}), "photo", {}, 1.0), [])
    assert store.jobs("") == []
