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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cameo.errors import EngineError, PhotoTooLarge
from cameo.images import read_photo
from cameo.many import IN_FLIGHT
from cameo.server.refusals import Hosts
from cameo.workers.calls import WorkOptions
from tests.support.served import (
    LARGE,
    SLOW,
    WEDGING,
    Running,
    ask,
    connect,
    hang_up,
    is_closed,
    png,
    request,
    serving,
    wait_for,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """What clients do prints nothing."""
    yield
    hang_up()
    assert capfd.readouterr().err == ""


def seconds(act: Callable[[], object]) -> float:
    started = time.monotonic()
    act()
    return time.monotonic() - started


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


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.1", "", "[::2]", "a b", "@"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/run"), ("GET", "/"), ("GET", "/health"), ("GET", "/nowhere")])
def test_another_host_is_refused(host: str, method: str, path: str) -> None:
    with serving() as server:
        body = png(9) if method == "POST" else None
        status, content, _ = server.ask(method, path, body, Host=host)
        assert status == 421
        assert "127.0.0.1, ::1, localhost" in content["error"]
        assert server.model.ran == 0


def test_its_own_names_are_taken() -> None:
    with serving(allow_hosts=("Photos.example",)) as server:
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8000", "photos.example", "photos.example.:443"):
            assert server.ask("GET", "/health", Host=host)[0] == 200, host


def test_hosts_go_with_the_address() -> None:
    everywhere = Hosts.bound_to("0.0.0.0", "0.0.0.0")
    assert all(map(everywhere.answers_to, ("localhost", "192.168.0.7:8000", "[fe80::1]:8000", "0.0.0.0")))
    assert not everywhere.answers_to("evil.example:8000")
    named = Hosts.bound_to("photos.lan", "192.168.0.7")
    assert all(map(named.answers_to, ("photos.lan", "192.168.0.7:8000")))
    assert not any(map(named.answers_to, ("localhost", "127.0.0.1", "192.168.0.8")))


def test_a_post_from_another_origin_is_refused() -> None:
    with serving() as server:
        here = f"127.0.0.1:{server.port}"
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"http://{here}.evil.example", ""):
            status, content, _ = server.ask("POST", "/run", png(9), Origin=origin)
            assert (status, "may not use this server" in content["error"]) == (403, True), origin
        assert server.model.ran == 0
        for origin in (f"http://{here}", f"HTTP://{here}"):
            assert server.ask("POST", "/run", png(9), Origin=origin)[0] == 200


def form(*parts: bytes) -> dict[str, object]:
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return {"body": body, "Content_Type": "multipart/form-data; boundary=b"}


PART = b'name="photo"; filename="a.png"\r\n\r\n'


def test_a_form_with_one_file_is_taken() -> None:
    with serving() as server:
        status, content, _ = server.ask("POST", "/run", **form(PART + png(200)))  # type: ignore[arg-type]
        assert (status, read_photo(content).max()) == (200, 55)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (form(PART + png(9), PART + png(9)), 400, "the form has too many files, expected at most 1: leave some out"),
        (form(b'name="size"\r\n\r\n720', PART + png(9)), 400, "test has no option `size`"),
        (form(), 400, "no photo came, expected photo"),
        (form(PART), 400, "is empty"),
        (form(b"\r\n\r\n"), 400, "the form cannot be read"),
        ({"body": b"nonsense", "Content_Type": "multipart/form-data; boundary=b"}, 400, "the form "),
        ({"body": b"nonsense", "Content_Type": "multipart/form-data"}, 400, "Missing boundary"),
        (form(PART + b"x" * 2**20), 413, "larger than 1 MiB"),
        ({"body": b"{}", "Content_Type": "application/json"}, 415, "curl --data-binary @photo.jpg http://127.0.0.1:"),
        (
            {"body": b"x", "Content_Type": "text/plain; charset=utf-8"},
            415,
            "the body is 'text/plain', expected a photo",
        ),
        ({"body": png(9), "Content_Encoding": "gzip"}, 415, "encoded as gzip"),
        ({"body": b"x" * (2**20 + 1)}, 413, "larger than 1 MiB"),
        ({"body": b"x"}, 400, "not an image"),
    ],
)
def test_what_cannot_be_taken_is_one_sentence(sent: dict[str, str], status: int, said: str) -> None:
    with serving(WorkOptions(max_megapixels=1), max_upload_mib=1) as server:
        found, content, _ = server.ask("POST", "/run", **sent)  # type: ignore[arg-type]
        assert (found, said in content["error"]) == (status, True), content
        assert server.ask("POST", "/run", png(9))[0] == 200


@pytest.mark.parametrize("kind", ["", "image/jpeg", "IMAGE/PNG; a=b", "application/octet-stream"])
def test_what_a_photo_may_be_called(kind: str) -> None:
    with serving() as server:
        assert server.ask("POST", "/run", png(9), Content_Type=kind)[0] == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/run?size=720"), ("GET", "/health?a"), ("GET", "/?b=1")])
def test_parameters_are_refused(method: str, path: str) -> None:
    with serving() as server:
        status, content, _ = server.ask(method, path, png(9) if method == "POST" else None)
        assert (status, "expected none" in content["error"]) == (400, True)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        PhotoTooLarge("The photo does not fit into the memory of this machine: shrink it."),
        EngineError("onnxruntime failed on inputs: Failed to allocate memory for requested buffer of size 9"),
        RuntimeError("std::bad_alloc"),
        Exception("OpenCV(4.14.0) error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
    ],
)
def test_a_photo_that_does_not_fit_into_memory_is_413(error: Exception) -> None:
    with serving() as server:
        server.model.error = error
        status, content, _ = server.ask("POST", "/run", png(9))
        assert (status, "does not fit into the memory" in content["error"]) == (413, True)
        server.model.error = None
        assert server.ask("POST", "/run", png(9))[0] == 200


def test_a_strip_is_too_large_at_once() -> None:
    strip = png(0, (1, 49_999_999))
    with serving() as server:
        answers = []
        assert seconds(lambda: answers.append(server.ask("POST", "/run", strip))) < 1
        assert (answers[0][0], server.model.ran) == (413, 0)


def test_a_bug_is_told_in_json(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server:
        server.model.error = ZeroDivisionError("inside")
        status, content, _ = server.ask("POST", "/run", png(9))
        assert (status, content["error"]) == (500, "the server failed at this request: its log says how")
        assert set(content) == {"error", "request_id"}
        wait_for(lambda: "ZeroDivisionError: inside" in caplog.text)
        server.model.error = None
        assert server.ask("POST", "/run", png(9))[0] == 200


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
