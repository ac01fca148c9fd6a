"""What a server lets in, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cameo.workers.crew import CrewOptions

if TYPE_CHECKING:
    from cameo.jobs.job import JobOptions
    from cameo.server.keys import ApiKeys

JOBS = "/v1/jobs"
"""Where jobs are, if the server keeps any."""


@dataclass(frozen=True)
class ServeOptions:
    """`queue`: photos inside at once, those that run included; `timeout_s`: for a photo to come, and for its result.

    `head_s`: for a request's head; `stall_s`: without a byte of a photo, or of an answer taken; `grace_s`: for photos
    inside when the server is told to end; `wedged_s`: for a worker at a photo that nobody waits for any more, before it
    is replaced. `allow_hosts`: names it answers to besides its address. With `keys`, only those who have one may
    ask; with `jobs`, they are kept.
    """

    queue: int = 8
    timeout_s: float = 30.0
    max_upload_mib: int = 64
    allow_hosts: tuple[str, ...] = ()
    head_s: float = 5.0
    stall_s: float = 10.0
    grace_s: float = 30.0
    wedged_s: float = 10.0
    max_connections: int = 256
    max_unread_mib: int = 256
    keys: ApiKeys | None = None
    jobs: JobOptions | None = None

    @property
    def crew(self) -> CrewOptions:
        """What of it is the crew's."""
        return CrewOptions(queue=self.queue, grace_s=self.wedged_s)
