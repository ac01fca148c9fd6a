"""`cameo serve` in a process of its own, and clients that do not wait for each other."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from cameo.errors import CameoError

_SERVE: Final = "import sys; from cameo.commands import main; sys.exit(main(['serve', *sys.argv[1:]]))"
BY_DESIGN: Final = frozenset({200, 503, 504})
"""What a client of an overloaded server may be told."""


@dataclass(frozen=True)
class Told:
    """The answer to one request: its status (0: none came), when it was sent and how long it took, seconds."""

    status: int
    sent: float
    took_s: float
    content: bytes = b""

    @property
    def accepted(self) -> bool:
        """Whether it was let in: it has a result, or was told that it took too long."""
        return self.status in (200, 504)


class Server:
    """A running server: where it listens, and its processes."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process, self._port = process, port

    @property
    def workers(self) -> list[int]:
        """Its child processes."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return [int(pid) for path in threads for pid in path.read_text().split()]

    def kill(self) -> None:
        """As the system does it when memory runs out."""
        self._process.kill()
        self._process.wait()

    def mib(self) -> float:
        """Resident memory of its workers."""
        return sum(map(resident_mib, self.workers))

    def ask(self, model: str, photo: bytes, timeout_s: float = 120) -> Told:
        """Send a photo's JPEG to a model, and wait for the answer's."""
        sent = time.monotonic()
        status, content = 0, b""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            headers = {"Content-Type": "image/jpeg", "Accept": "image/jpeg"}
            connection.request("POST", f"/v1/models/{model}", photo, headers)
            answer = connection.getresponse()
            content = answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            pass  # told by the status
        finally:
            connection.close()
        return Told(status, sent, time.monotonic() - sent, content)


@contextmanager
def serving(bundles: Sequence[Path], *flags: str, log: Path) -> Iterator[Server]:
    """A server of these bundles on a free port, ended by SIGTERM; what it logs goes to a file.

    Raises:
        CameoError: it did not start.
    """
    command = [sys.executable, "-c", _SERVE, *map(str, bundles), "--port", "0", *flags]
    with log.open("a") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"serving on http://[\d.]+:(\d+)", line):
            break
    else:
        raise CameoError(f"the server did not start: {''.join(lines)}{log.read_text()[-500:]}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    try:
        yield Server(process, int(found[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def runs(pid: int) -> bool:
    """Whether a process is there, and is no zombie whose parent has not asked for its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def resident_mib(pid: int) -> float:
    """A process's resident memory; 0 of one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Load:
    """What became of requests that were sent at their times, whatever became of others; and the peak of memory."""

    told: list[Told] = field(default_factory=list)
    peak_mib: float = 0.0

    @property
    def statuses(self) -> str:
        """How many of each: "200: 41, 503: 120"."""
        return ", ".join(
            f"{status or 'none'}: {n}" for status, n in sorted(Counter(t.status for t in self.told).items())
        )

    def latency_s(self, percentile: float) -> float:
        """Seconds of those that were accepted."""
        return float(np.percentile([one.took_s for one in self.told if one.accepted], percentile))


def at_rate(server: Server, model: str, photos: Sequence[bytes], rate: float, seconds: float) -> Load:
    """So many requests a second, each in a thread of its own, for so long, the photos in turn."""
    load, count = Load(), max(round(rate * seconds), 1)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            load.peak_mib = max(load.peak_mib, server.mib())

    def one(photo: bytes) -> None:
        load.told.append(server.ask(model, photo))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, threads = time.monotonic(), []
    for number in range(count):
        time.sleep(max(began + number / rate - time.monotonic(), 0))
        threads.append(threading.Thread(target=one, args=(photos[number % len(photos)],)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    return load


def capacity(server: Server, model: str, photos: Sequence[bytes], clients: int, seconds: float) -> float:
    """Photos a second for so many clients that each wait for their answer and send the next."""
    until, done = time.monotonic() + seconds, Counter[int]()

    def client(number: int) -> None:
        while time.monotonic() < until:
            done[server.ask(model, photos[(number + sum(done.values())) % len(photos)]).status] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done[200] / (time.monotonic() - began)
