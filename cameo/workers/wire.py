"""Messages between a front and its worker: a line of JSON, and contents of files, in memory that belongs to no name.

Each message is a file in memory whose descriptor goes over a socket, with one byte. So nothing is pickled, a message of
any size is sent without waiting for the other side, and the death of either leaves nothing behind in /dev/shm
(docs/decisions/182).
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple


class Message(NamedTuple):
    """`head` is made of what JSON is made of; `files` are bytes by name."""

    head: Mapping[str, Any]
    files: Mapping[str, bytes]


def send(connection: socket.socket, head: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> None:
    """Send a message; one thread at a time.

    Raises:
        OSError: the other side is gone, or there is no memory.
    """
    files = files or {}
    line = json.dumps({"head": head, "sizes": {name: len(content) for name, content in files.items()}}).encode()
    memory = _memory()
    try:
        with open(memory, "wb", closefd=False) as file:
            file.writelines([line, b"\n", *files.values()])
        socket.send_fds(connection, [b"\0"], [memory])
    finally:
        os.close(memory)


def receive(connection: socket.socket) -> Message | None:
    """The next message; None when the other side is gone."""
    try:
        byte, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    except OSError:
        return None
    if not byte:
        return None
    with open(descriptors[0], "rb") as file:
        file.seek(0)
        told = json.loads(file.readline())
        return Message(told["head"], {name: file.read(size) for name, size in told["sizes"].items()})


def _memory() -> int:
    """The descriptor of an empty file that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cameo")
    with tempfile.TemporaryFile() as file:  # what other systems have
        return os.dup(file.fileno())
