"""A running server and clients that stall, hang up, read nothing or lie: others are served, and nothing is printed."""

from __future__ import annotations

import asyncio
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cameo.images import read_photo
from cameo.many import IN_FLIGHT
from tests.support.served import (
    LARGE,
    SLOW,
    WEDGING,
    Running,
    ask,
    connect,
    is_closed,
    png,
    request,
    seconds,
    serving,
    wait_for,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet_clients")]


ROOT = Path(__file__).parents[3]


def read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        more = connection.recv(2**20)
        assert more, received
        received += more
    return received


def test_stalled_uploads_take_no_place() -> None:
    with serving(queue=2) as server:
        for _ in range(8):
            server.connect(request(png(9)[:40], more=100))
        assert seconds(lambda: server.ask("POST", "/run", png(200))) < 2
        status, content, _ = server.ask("POST", "/run", png(200))
        assert (status, read_photo(content).max()) == (200, 55)
        assert server.ask("GET", "/health")[1]["inside"] == 0


def test_a_stalled_upload_is_ended_and_told() -> None:
    with serving(stall_s=0.3) as server:
        connection = server.connect(request(b"x", more=10))
        answer = read_until(connection, b"}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'{"error":"the photo stopped coming' in answer


def test_an_upload_is_not_awaited_longer_than_its_sender_waits() -> None:
    with serving(stall_s=20) as server:
        sent = request(b"x", more=10).replace(b"\r\n", b"\r\nX-Cameo-Timeout: 0.3\r\n", 1)
        connection, started = server.connect(sent), time.monotonic()
        assert read_until(connection, b"}").startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 5


def test_an_upload_that_only_drips_is_ended_too() -> None:
    with serving(stall_s=0.3, timeout_s=1) as server:
        connection = server.connect(request(b"x", more=100))
        started = time.monotonic()
        while not select.select([connection], [], [], 0.1)[0]:
            connection.sendall(b"x")
            assert time.monotonic() < started + 5
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_stalled_uploads_make_room_for_others() -> None:
    with serving(queue=2, max_upload_mib=1) as server:
        large = b"x" * (2**20 - 10)
        stalled = [server.connect(request(large, more=5)) for _ in range(2)]
        time.sleep(0.3)
        status, content, headers = server.ask("POST", "/run", png(200))
        assert (status, headers["retry-after"]) == (503, "2"), "they might still come"
        assert "too many photos are on their way" in content["error"]
        time.sleep(1)
        assert server.ask("POST", "/run", png(200))[0] == 200
        ended = [c for c in stalled if select.select([c], [], [], 0.2)[0]]
        assert [c.recv(12) for c in ended] == [b"HTTP/1.1 408"], "one was enough"


def test_heads_that_never_end_are_closed() -> None:
    with serving(head_s=0.5, max_connections=400) as server:
        heads = (b"", b"GET /health HT", b"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        open_ones = [server.connect(heads[n % 3]) for n in range(300)]
        dripping = server.connect(b"GET / HTTP/1.1\r\nX: ")
        idle = server.connect(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        started = time.monotonic()
        assert server.ask("GET", "/health")[0] == 200
        with suppress(ConnectionError):
            while time.monotonic() < started + 2:
                dripping.sendall(b"x")
                time.sleep(0.05)
        assert sum(is_closed(connection, 2) for connection in (*open_ones, idle, dripping)) == 302
        assert time.monotonic() < started + 4


def test_connections_are_counted_and_the_stalest_makes_room() -> None:
    with serving(max_connections=20) as server:
        open_ones = [server.connect(b"GET ") for _ in range(40)]
        assert server.ask("GET", "/health")[0] == 200
        assert len(server.state.connections) <= 21
        assert is_closed(open_ones[0], 1)
        assert not is_closed(open_ones[-1], 0.1)


def test_who_is_busy_makes_no_room() -> None:
    with serving(max_connections=4) as server:
        uploads = [server.connect(request(b"x", more=10)) for _ in range(4)]
        wait_for(lambda: len(server.state.tasks) == 4)
        status, content, _ = server.ask("GET", "/health")
        assert (status, content) == (503, {"error": "too many connections are open: try again in a moment"})
        assert not is_closed(uploads[0], 0.1)


def unread(server: Running) -> int:
    """Counted by the server's own thread: in the middle of a callback, an answer is written and nothing dropped yet."""

    async def count() -> int:
        return sum(c.transport.get_write_buffer_size() for c in server.state.connections)

    loops = [c.loop for c in list(server.state.connections)]
    return asyncio.run_coroutine_threadsafe(count(), loops[0]).result(5) if loops else 0


def test_answers_that_nobody_reads_are_bounded_and_dropped() -> None:
    photo = b"Accept: image/jpeg\r\nContent".join(request(png(LARGE)).split(b"Content", 1))
    with serving(stall_s=1, max_unread_mib=20) as server:
        clients = []
        for ran in range(1, 5):
            clients.append(server.connect(photo))
            wait_for(lambda ran=ran: server.model.ran == ran and server.ask("GET", "/health")[1]["inside"] == 0)
            assert unread(server) < 20 * 2**20
        wait_for(lambda: unread(server) == 0, 5)
        assert all(is_closed(client, 2) for client in clients)


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    with serving() as server:
        server.connect(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_for(lambda: bool(server.state.connections))
        (connection,) = server.state.connections
        option = connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert option == 1


def test_who_reads_slowly_gets_everything() -> None:
    with serving(stall_s=1) as server:
        connection = server.connect(request(png(LARGE)))
        received, started = b"", time.monotonic()
        while not received.endswith(b"IEND\xaeB`\x82"):
            received += connection.recv(2**20)
            time.sleep(0.1)
        assert time.monotonic() > started + 1.5
        assert read_photo(received.partition(b"\r\n\r\n")[2]).shape == (2000, 3000, 3)


def test_photos_whose_sender_hung_up_are_not_run() -> None:
    with serving() as server:
        server.model.gate.clear()
        senders = [server.connect(request(png(value))) for value in range(100, 105)]
        wait_for(lambda: server.ask("GET", "/health")[1]["inside"] == 5)
        for sender in senders:
            sender.close()
        wait_for(lambda: server.ask("GET", "/health")[1]["inside"] == 1)
        server.model.gate.set()
        assert server.ask("POST", "/run", png(200))[0] == 200
        assert server.model.ran == 2, "the first could not be stopped"
        assert b'cameo_refusals_total{model="test",reason="hung_up"} 5.0' in server.ask("GET", "/metrics")[1]


@pytest.mark.parametrize("sent", [request(png(9)[:40], more=100), request(b"", more=9), b"GET /he", b"POST /run HTTP"])
def test_an_aborted_request_prints_nothing(sent: bytes) -> None:
    with serving() as server:
        for _ in range(3):
            server.connect(sent).close()
        form = b"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=a\r\n"
        server.connect(form + b"Content-Length: 99\r\n\r\n--a\r\nContent-Dispo").close()
        assert server.ask("POST", "/run", png(200))[0] == 200
        wait_for(lambda: not server.state.connections)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 2**17,
    ],
)
def test_what_is_no_http_is_answered_in_json(sent: bytes) -> None:
    with serving() as server:
        connection = server.connect(sent)
        answer = read_until(connection, b"}")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'{"error": "Invalid HTTP request received, expected HTTP/1.1' in answer
        assert is_closed(connection, 2)


def test_nonsense_after_an_early_answer_prints_nothing() -> None:
    head = b"POST /run HTTP/1.1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving() as server:
        connection = server.connect(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 421 ")
        connection.sendall(b"zz\r\n")
        assert is_closed(connection, 2)


def test_who_would_wait_too_long_is_told_at_once() -> None:
    with serving(timeout_s=1.6) as server:
        assert server.ask("POST", "/run", png(SLOW))[0] == 200, "takes 0.5 s, which is measured"
        with ThreadPoolExecutor(6) as clients:
            asked = []
            for _ in range(6):
                asked.append(clients.submit(timed, server))
                time.sleep(0.05)
            answers = [job.result() for job in asked]
        assert [status for status, _, _ in answers].count(200) >= 2
        refused = [(took, retry) for status, took, retry in answers if status == 503]
        assert len(refused) >= 2, answers
        assert {status for status, _, _ in answers} == {200, 503}, "nobody waits in vain"
        assert all(took < 0.4 and int(retry) in (1, 2) for took, retry in refused), refused


def timed(server: Running) -> tuple[int, float, str]:
    started = time.monotonic()
    status, _, headers = server.ask("POST", "/run", png(SLOW))
    return status, time.monotonic() - started, headers.get("retry-after", "")


def test_one_photo_that_took_long_locks_nobody_out() -> None:
    with serving(timeout_s=0.3) as server:
        assert server.ask("POST", "/run", png(SLOW))[0] == 504
        wait_for(lambda: server.ask("GET", "/health")[1]["inside"] == 0)
        assert server.ask("POST", "/run", png(200))[0] == 200


def test_a_wedged_engine_is_replaced_and_that_is_told() -> None:
    with serving(timeout_s=0.4, wedged_s=0.5) as server:
        server.model.gate.clear()
        assert server.ask("POST", "/run", png(9))[0] == 504
        status, state, _ = server.ask("GET", "/health")
        assert (status, state["inside"], state["model"]) == (200, 1, "test")
        wait_for(lambda: server.ask("GET", "/v1/models")[1]["workers"][0]["restarts"] == 1)
        assert b'cameo_worker_restarts_total{worker="0"} 1.0' in server.ask("GET", "/metrics")[1]
        server.model.gate.set()
        wait_for(lambda: server.ask("GET", "/ready")[0] == 200)
        assert server.ask("POST", "/run", png(200))[0] == 200
        assert server.ask("GET", "/health")[1]["inside"] == 0


def test_workers_that_cannot_be_replaced_are_told_at_once_and_by_health() -> None:
    with serving() as server:
        server.hiring.broken = True
        server.hiring.kill()
        wait_for(lambda: "several times" in server.ask("GET", "/ready")[1].get("error", ""))
        status, state, _ = server.ask("GET", "/health")
        assert (status, state["model"]) == (503, "test")
        assert state["error"].startswith("workers failed several times, and the next is tried in a moment")
        assert server.ask("GET", "/ready")[0] == 503
        assert server.ask("GET", "/live")[0] == 200
        assert seconds(lambda: server.ask("POST", "/run", png(9))) < 0.3
        status, content, headers = server.ask("POST", "/run", png(9))
        assert (status, int(headers["retry-after"]) >= 1) == (503, True)
        assert "workers ended again and again" in content["error"]
        server.hiring.broken = False
        wait_for(lambda: server.ask("POST", "/run", png(200))[0] == 200, 20)
        assert server.ask("GET", "/health")[0] == 200


@contextmanager
def process(options: str = "{}") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`serve` in a process of its own, and its port."""
    command = [sys.executable, "-m", "tests.support.served", options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        where = next(match for line in running.stdout if (match := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
        try:
            yield running, int(where[1])
        finally:
            running.kill()


def end(running: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> tuple[int, str, float]:
    """Exit code, standard error and the seconds it took."""
    started = time.monotonic()
    running.send_signal(how)
    _, printed = running.communicate(timeout=30)
    return running.returncode, printed, time.monotonic() - started


def test_sigterm_ends_it_whoever_is_connected() -> None:
    with process('{"grace_s": 1}') as (running, port):
        for sent in (b"", b"GET /", request(b"x", more=9), request(png(LARGE))):
            connect(port, sent)
        time.sleep(1.5)
        code, printed, took = end(running)
        assert (code, printed) == (0, "")
        assert took < 4


def test_sigterm_lets_the_photo_in_work_finish() -> None:
    with process() as (running, port), ThreadPoolExecutor(1) as client:
        answer = client.submit(ask, port, "POST", "/run", png(SLOW))
        wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] == 1)
        code, printed, _ = end(running)
        assert (code, printed, answer.result()[0]) == (0, "", 200)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_wedged_engine_shows_in_the_exit_code(how: signal.Signals) -> None:
    with process('{"grace_s": 0.5, "timeout_s": 1}') as (running, port):
        assert ask(port, "POST", "/run", png(WEDGING))[0] == 504
        code, printed, took = end(running, how)
        assert (code, printed) == (1, "the engine is still at a photo: ended without waiting for it\n")
        assert took < 4


def test_a_wedged_engine_is_not_waited_for_twice() -> None:
    with process('{"grace_s": 3, "timeout_s": 60, "wedged_s": 0.2}') as (running, port):
        connect(port, request(png(WEDGING)))
        wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] == 1)
        code, _, took = end(running)
        assert code == 1
        assert took < 5.5


def test_memory_stays_where_it_is() -> None:
    """While the worker is full, others come, wait and hang up: 50 times 8 MiB."""
    with process('{"timeout_s": 60, "queue": 20}') as (running, port):
        for _ in range(IN_FLIGHT):
            connect(port, request(png(WEDGING)))
        wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] == IN_FLIGHT)
        sizes = []
        for _ in range(50):
            sender = connect(port, request(bytes(8 * 2**20)))
            wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] == IN_FLIGHT + 1)
            sender.close()
            wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] == IN_FLIGHT)
            sizes.append(psutil.Process(running.pid).memory_info().rss)
        assert max(sizes[10:]) - sizes[9] < 24 * 2**20
