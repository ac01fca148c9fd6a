"""1500 malformed requests and 50 slow clients among good ones: nobody good is lost, and memory stays where it is."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.cameo.server.test_process import PHOTO, post, served
from tests.support.blur_bundle import write_bundle
from tests.support.served import ask, connect, hang_up

pytestmark = pytest.mark.slow
MALFORMED: Final = 1500
SLOW_CLIENTS: Final = 50
MOST_MIB: Final = 16
PATH: Final = "/v1/models/one"


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def sent(body: bytes, *lines: str, path: str = PATH) -> bytes:
    return head("POST", path, f"Content-Length: {len(body)}", *lines) + body


def form(body: bytes, boundary: str = "b") -> bytes:
    return sent(body, f"Content-Type: multipart/form-data; boundary={boundary}")


PART: Final = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\n'
FIELD: Final = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
END: Final = b"\r\n--b--\r\n"
KINDS: Final = (
    b"\0" + os.urandom(300),
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00" + os.urandom(500),
    head("GET", "/" + "x" * 3000),
    head("GET", "/nowhere"),
    head("BREW", "/v1/models"),
    head("POST", PATH, "Content-Length: 5", "Content-Length: 6") + b"hello",
    head("POST", PATH, "Transfer-Encoding: chunked") + b"zz\r\n",
    head("POST", PATH, "Content-Length: 99999999999"),
    head("GET", "/live", "X: " + "y" * 2**18),
    head("GET", "/v1/models?alpha=1"),
    b"GET /live HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    sent(PHOTO, "Origin: http://evil.example"),
    sent(PHOTO, "X-Cameo-Timeout: soon"),
    sent(PHOTO, path="/v1/models/none"),
    sent(PHOTO[: len(PHOTO) // 2]),
    sent(b""),
    sent(os.urandom(2000)),
    sent(b"{}", "Content-Type: application/json"),
    sent(PHOTO, "Content-Encoding: gzip"),
    form(PART + PHOTO),
    form(PART + PHOTO + END, "other"),
    form(PART + PHOTO + b"\r\n" + PART + PHOTO + END),
    form(PART + PHOTO + b"\r\n" + FIELD % (b"alpha", b"7") + END),
    form(PART + PHOTO + b"\r\n" + FIELD % (b"\xff\x00", b"1") + END),
    form(PART + PHOTO + b"\r\n" + FIELD % (b"alpha", b"9" * 5000) + END),
    form(b"".join(FIELD % (b"f%d" % number, b"1") for number in range(40)) + END),
)


def told(port: int, request: bytes) -> int:
    """The status of the answer to these bytes, 0 where the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, suppress(ConnectionError):
        connection.sendall(request)
        answer = connection.recv(2**16)
        return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
    return 0


@contextmanager
def repeated(act: Callable[[], object], pause_s: float = 0.0) -> Iterator[None]:
    """Do it again and again, in a thread, until the block is left."""
    over = threading.Event()

    def again() -> None:
        while not over.wait(pause_s):
            act()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_storm_of_bad_clients_loses_no_good_one(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, "gpen", ["gpen-bfr-64"], ["onnxruntime"])
    with served(f"one={bundle}", "--log", "json") as (running, port):
        assert running.stderr is not None
        log: list[str] = []
        reader = threading.Thread(target=lambda: log.extend(running.stderr or ()), daemon=True)
        reader.start()
        good: list[int] = []
        slow = [connect(port, head("POST", PATH, "Content-Length: 9999")[: 10 + 3 * n]) for n in range(SLOW_CLIENTS)]

        def drip() -> None:
            for client in slow:
                with suppress(OSError):
                    client.send(b"x")

        storm = list(itertools.islice(itertools.cycle(KINDS), MALFORMED))
        with repeated(lambda: good.append(post(port, "one"))), repeated(drip, 0.2), ThreadPoolExecutor(6) as bad:
            list(bad.map(lambda request: told(port, request), storm[:300]))  # by then all is warm
            before = psutil.Process(running.pid).memory_info().rss
            statuses = Counter(bad.map(lambda request: told(port, request), storm))
        after = psutil.Process(running.pid).memory_info().rss
        hang_up()
        assert set(good) == {200}
        assert len(good) > 50
        assert not {status for status in statuses if status >= 500 or 200 <= status < 300}, statuses
        assert statuses[400] > MALFORMED / 3
        assert (after - before) / 2**20 < MOST_MIB
        assert ask(port, "GET", "/health")[1]["inside"] == 0
        running.terminate()
        assert running.wait(20) == 0
        reader.join(10)
    assert not [line for line in log if not line.startswith("{") or '"level": "error"' in line]
