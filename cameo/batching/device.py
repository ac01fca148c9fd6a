"""One caller at a time owns a device, and runs rows of one network and shape together where that pays.

Whoever waits while the device is free runs the next batch, whosever rows it has, in its own thread. So a lone caller
pays for no other thread, and leaves no other thread's heap behind (docs/decisions/170). Who leaves the device wakes one
who runs the next batch, and then those whose rows are done; all others sleep.

Rows are served in the order of start-time fair queueing (Goyal et al., 1996): a caller's rows are numbered from where
the device is when they come, so that a caller of many rows keeps nobody with one waiting, and none waits for ever.

A batch that can become no larger is put together while the one before it runs; any other waits for those who may come.

The line is as long as its callers make it: each waits for its rows, and hands over a batch at a time
(`cameo/batches.py`). An engine that was given a part of the cores runs several batches at once: then so many callers
own the device (`lanes`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cameo.batching.visit import Visit
from cameo.errors import EngineError
from cameo.session import Tensor

if TYPE_CHECKING:
    from cameo.batching.batched import Batched, Key

_GIVEN_UP: Final = "the photo was given up while it waited: nobody wanted its result"


@dataclass(eq=False)
class Caller:
    """A thread whose rows are in line. It sleeps at `turn` while others run, `asleep`, or `pausing` for company; or it
    is `early`, and puts its batch together before the device is free.
    """

    turn: threading.Condition
    thread: int = field(default_factory=threading.get_ident)
    early: bool = False
    rows: list[Row] = field(default_factory=list)
    asleep: bool = False
    pausing: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it need not wait any more: all of its rows are done, or one failed."""
        done = [row.done.done() for row in self.rows]
        return all(done) or any(known and row.done.exception() for known, row in zip(done, self.rows, strict=True))


@dataclass(eq=False)
class Row:
    """One row, a batch of one, that waits; `key` tells the names, types and shapes of its feeds."""

    network: Batched
    key: Key
    feeds: Mapping[str, Tensor]
    visit: Visit
    caller: Caller
    tag: float = 0.0
    came: float = 0.0
    done: Future[dict[str, Tensor]] = field(default_factory=Future)


class Device:
    """The line of those who own a device in turn; any thread may join it until `close`.

    Without a caller in view (`visit`) rows count as their thread's. `batches` counts what ran by its rows, `recoveries`
    how often memory ran out and the rows ran in smaller batches.
    """

    def __init__(self, lanes: int = 1) -> None:
        self._lanes = lanes
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._rows: list[Row] = []
        self._present: set[Visit] = set()
        self._running: set[int] = set()  # threads
        self._early: Caller | None = None  # never while a lane is free
        self._closed = False
        self._clock = 0.0  # the tag of the row that was served last
        self._mine = threading.local()
        self.batches: Counter[int] = Counter()
        self.recoveries = 0

    def widen(self, lanes: int) -> None:
        """Let so many batches run at once, if that is more than now."""
        with self._lock:
            self._lanes = max(self._lanes, lanes)

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        """Within it, this thread's rows are those of one caller, who is known to be there: the outermost's."""
        if (outer := getattr(self._mine, "visit", None)) is not None:
            yield outer
            return
        visit = self._mine.visit = Visit()
        with self._lock:
            self._present.add(visit)
        try:
            yield visit
        finally:
            self._mine.visit = None
            with self._lock:
                self._present.discard(visit)
                self._wake_next()

    def run(self, network: Batched, key: Key, rows: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """What `network` makes of each row, when all of them had their turn.

        Raises:
            EngineError: the device was closed, or the network failed on one of them.
        """
        visit = getattr(self._mine, "visit", None) or Visit()
        caller = Caller(threading.Condition(self._lock))
        caller.rows = [Row(network, key, row, visit, caller) for row in rows]
        with self._lock:
            self._enter(caller.rows, visit)
        try:
            while batch := self._next(caller):
                self._serve(batch, caller)
            return [row.done.result(0) for row in caller.rows]  # the first that failed raises
        finally:
            self._depart(caller)

    def _enter(self, rows: Sequence[Row], visit: Visit) -> None:
        if self._closed:
            raise EngineError(f"{rows[0].network.engine} was asked to run after its session was closed: open it again")
        if visit.given_up:
            raise EngineError(_GIVEN_UP)
        now = time.monotonic()
        for row in rows:
            row.came, row.tag = now, max(self._clock, visit.next_tag)
            visit.next_tag = row.tag + 1
        visit.waiting += len(rows)
        rows[0].network.note_arrival(now)
        self._rows.extend(rows)

    def _depart(self, caller: Caller) -> None:
        """A caller goes, with rows that nobody wants any more if one failed or it was interrupted; another may lead."""
        with self._lock:
            left = [row for row in caller.rows if not row.done.done()]
            if left:
                self._take([row for row in self._rows if row in left], served=False)
            self._wake_next()
        caller.rows = []  # rows know their callers: their pixels would wait for the garbage collector

    def give_up(self, visit: Visit) -> None:
        """Drop what waits of a visit, or comes later: its caller gets an `EngineError`. A batch that runs goes on."""
        with self._lock:
            visit.given_up = True
            for row in self._take([row for row in self._rows if row.visit is visit], served=False):
                row.done.set_exception(EngineError(_GIVEN_UP))
                row.caller.turn.notify()
            self._wake_next()

    @property
    def inside(self) -> int:
        """How many callers are here."""
        return len(self._present)

    def close(self) -> None:
        """Wait until what was accepted has run; whoever comes later is refused. Closing twice does no harm."""
        with self._lock:
            self._closed = True
            self._wake_next()
            if threading.get_ident() not in self._running:
                self._idle.wait_for(lambda: not self._rows and not self._running)

    def _next(self, caller: Caller) -> list[Row]:
        """The next batch, which has the row that is due, when it may begin; none when the caller's rows are done."""
        with self._lock:
            while not caller.is_settled:
                is_free = len(self._running) < self._lanes
                if not self._rows or not (is_free or self._early is None):
                    self._sleep(caller)
                    continue
                due = min(self._rows, key=lambda row: row.tag)
                fellows = [row for row in self._rows if (row.network, row.key) == (due.network, due.key)]
                fellows.sort(key=lambda row: row.tag)
                size = due.network.batch_for(due.key, len(fellows))
                if not is_free:
                    if due.network.is_full(due.key, size):
                        self._early, caller.early = caller, True
                        return self._take(fellows[:size])
                    self._sleep(caller)
                    continue
                pause = self._patience(due, fellows)
                if pause <= 0:
                    self._running.add(caller.thread)
                    batch = self._take(fellows[:size])
                    self._wake_next()  # another lane may be free
                    return batch
                caller.pausing = True
                caller.turn.wait(pause)
                caller.pausing = False
        return []

    def _sleep(self, caller: Caller) -> None:
        caller.asleep = True
        caller.turn.wait()
        caller.asleep = False

    def _wake_next(self) -> None:
        """Somebody for the next batch, if one may begin: who pauses for company, or sleeps with the oldest row."""
        if not self._rows and not self._running:
            self._idle.notify_all()
        if not self._rows or (len(self._running) >= self._lanes and self._early is not None):
            return
        callers = [row.caller for row in sorted(self._rows, key=lambda row: row.tag)]
        waiting = [one for one in callers if one.pausing] or [one for one in callers if one.asleep]
        if waiting:
            waiting[0].turn.notify()

    def _serve(self, rows: Sequence[Row], caller: Caller) -> None:
        """Run a batch, and tell every caller its result."""
        network = rows[0].network
        try:
            joined = network.joined(rows) if caller.early else None
            self._await_lane(caller)
            results = network.serve(rows, joined)
        except Exception as error:  # a bug: whoever waits must hear of it
            results = dict.fromkeys(rows, error)
        except BaseException:  # this thread shall end: the others' rows are not its own
            self._leave(caller, back=rows)
            raise
        for row in rows:
            result = results[row]
            if isinstance(result, BaseException):
                row.done.set_exception(result)
            else:
                row.done.set_result(result)
        self._leave(caller, served=rows)

    def _await_lane(self, caller: Caller) -> None:
        """Wait for the device, if the caller was early."""
        with self._lock:
            while caller.thread not in self._running:
                caller.turn.wait()

    def _leave(self, caller: Caller, served: Sequence[Row] = (), back: Sequence[Row] = ()) -> None:
        """The device is free for the next, with rows that were `served`, or go `back` to the line."""
        with self._lock:
            self._running.discard(caller.thread)
            if self._early is caller:  # it ends before it had the device
                self._early = None
            if self._early is not None and len(self._running) < self._lanes:
                self._running.add(self._early.thread)
                self._early.turn.notify()
                self._early = None
            caller.early = False
            self._rows.extend(back)
            for row in served:
                row.visit.waiting -= 1
            self._wake_next()
            for other in dict.fromkeys(row.caller for row in served):
                if other.is_settled:
                    other.turn.notify()

    def _patience(self, due: Row, fellows: Sequence[Row]) -> float:
        """Seconds to wait for company; 0 where it does not pay, or everybody who could bring some waits already."""
        if self._closed or all(visit.waiting for visit in self._present):
            return 0.0
        since = min(row.came for row in fellows)
        return due.network.patience_s(due.key, len(fellows)) - (time.monotonic() - since)

    def _take(self, rows: list[Row], served: bool = True) -> list[Row]:
        """The rows, which wait no longer: because they run now, or because nobody wants them any more."""
        if served:
            self._clock = max(self._clock, rows[0].tag)
        else:
            for row in rows:
                row.visit.waiting -= 1
        taken = set(rows)
        self._rows = [row for row in self._rows if row not in taken]
        return rows
