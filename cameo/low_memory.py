"""Networks in turns: of all that a model has, one is open, so that memory holds the largest and not their sum.

Each is opened once at loading, which proves that it can run here, and gives way to the next; after that it is opened
when it is run, which costs the time of loading it. Callers on several threads wait for each other, also where they run
different networks: a network is closed only when nobody is in it (docs/decisions/177).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from cameo.errors import EngineError
from cameo.memory.heap import give_back
from cameo.session import Session, Tensor

Open = Callable[[], Session]


class OneOpen:
    """The place that networks take turns with. Whoever holds `lock` may use the network in it, or change it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._holder: InTurn | None = None
        self._session: Session | None = None

    def of(self, holder: InTurn, open_engine: Open) -> Session:
        """The network of `holder`, open; that of another is closed first.

        Raises:
            EngineError, EngineUnavailable: it cannot be opened; then none is open.
        """
        if self._session is None or self._holder is not holder:
            self.vacate(self._holder)
            self._session, self._holder = open_engine(), holder
        return self._session

    def vacate(self, holder: InTurn | None) -> None:
        """Close the network in it, if it is that of `holder`."""
        if self._session is None or self._holder is not holder:
            return
        session, self._session, self._holder = self._session, None, None
        session.close()
        del session
        give_back()  # glibc keeps what is freed for the next allocation


class InTurn(Session):
    """A network that is open while it is its turn; `inputs`, `outputs` and `batches` are known all the time."""

    def __init__(self, place: OneOpen, open_engine: Open) -> None:
        self._place, self._open, self._closed = place, open_engine, False
        with place.lock:
            session = place.of(self, open_engine)
            self.inputs, self.outputs, self.batches = session.inputs, session.outputs, session.batches
            self.engine = session.engine

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every output of the network for one batch, after the networks of other callers.

        Raises:
            EngineError: the session is closed, its engine can no longer be opened, or the run failed.
        """
        with self._place.lock:
            if self._closed:
                raise EngineError("a network was asked to run after its session was closed: open it again")
            return self._place.of(self, self._open).run(feeds)

    def close(self) -> None:
        """Wait for who runs, and free the memory; calling it twice does no harm."""
        with self._place.lock:
            self._closed = True
            self._place.vacate(self)
