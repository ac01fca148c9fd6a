"""What the sessions of all engines share: any thread may run them, they check their feeds, and closed is closed.

Callers take turns. An engine uses all its cores for one run, so that several at once take as long as one after another,
but each its own activations: DCT-Net and GPEN would need as much memory as there are callers (docs/decisions/105).
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping

from cameo.backends._feeds import checked
from cameo.errors import EngineError
from cameo.session import Session, Tensor


class TakingTurns(Session):
    """A session of `engine` that runs for at most `turns` callers at once; the others wait.

    A subclass sets `inputs` and `outputs`, and computes in `_run` and frees in `_free` what it likes: neither meets
    the other.
    """

    def __init__(self, engine: str, turns: int = 1) -> None:
        self._engine_name = self.engine = engine
        self._turns = self.turns = turns
        self._free_turns = threading.Semaphore(turns)
        self._closing = threading.Lock()
        self._closed = False

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output of the network for one batch.

        Raises:
            EngineError: the session is closed, the feeds do not fit the network, or memory ran out.
        """
        with self._free_turns:
            return self._run(self._checked(feeds))

    def close(self) -> None:
        """Wait for who runs, turn away who waits, and free the memory; calling it twice does no harm."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for _ in range(self._turns):
                self._free_turns.acquire()
            self._free()
            self._free_turns.release(self._turns)

    def _checked(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._closed:
            raise EngineError(f"{self._engine_name} was asked to run after its session was closed: open it again")
        return checked(self._engine_name, self.inputs, feeds)

    @abstractmethod
    def _run(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for feeds that were checked, as arrays that the caller owns."""

    @abstractmethod
    def _free(self) -> None:
        """Free all memory; called once."""
