"""What a server lets in, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class ServeOptions:
    """`queue`: photos inside at once, the running one included; `timeout_s`: for a photo to come, and for its result.

    `head_s`: for a request's head; `stall_s`: without a byte of a photo, or of an answer taken; `grace_s`: for photos
    inside when the server is told to end. `allow_hosts`: names it answers to besides its address.
    """

    queue: int = 8
    timeout_s: float = 30.0
    max_upload_mib: int = 64
    max_megapixels: int = 50
    allow_hosts: tuple[str, ...] = ()
    head_s: float = 5.0
    stall_s: float = 10.0
    grace_s: float = 3.0
    max_connections: int = 256
    max_unread_mib: int = 256
