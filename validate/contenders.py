"""The engines that take part in a comparison, each in a process of its own beside the original's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cameo.backends import backend
from cameo.errors import EngineUnavailable
from validate.remote import RemoteSession, Spec


@dataclass
class Contender:
    """One engine while it is being measured."""

    engine: str
    precision: str
    mode: str
    subject: str
    why_not_run: str = ""
    session: RemoteSession | None = None
    latencies_ms: tuple[float, ...] = ()
    memory: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def running(self) -> RemoteSession:
        """Its session, which only engines that can run here have."""
        if self.session is None:
            raise EngineUnavailable(f"{self.subject} cannot run here: {self.why_not_run}")
        return self.session


@dataclass(frozen=True)
class Starting:
    """Where sessions keep their files, and how long they may take to answer."""

    scratch: Path
    timeout_s: float

    def start(
        self, stack: ExitStack, original: Spec, contenders: Sequence[Contender], spec_of: Callable[[Contender], Spec]
    ) -> RemoteSession:
        """Load the original and every contender side by side; return the original when all are loaded.

        A contender that cannot run here gets no session, and says why.

        Raises:
            EngineError: one crashed, or failed to load.
        """
        for contender in contenders:
            contender.why_not_run = backend(contender.engine).why_unavailable(contender.precision) or ""
        hopeful = [contender for contender in contenders if not contender.why_not_run]
        specs = [original, *map(spec_of, hopeful)]
        first, *sessions = [stack.enter_context(RemoteSession(spec, self.scratch, self.timeout_s)) for spec in specs]
        first.wait()
        for contender, session in zip(hopeful, sessions, strict=True):
            try:
                session.wait()
                contender.session = session
            except EngineUnavailable as error:
                contender.why_not_run = str(error)
        return first
