"""Requests that are refused, each in one sentence: of another host or origin, and what cannot be taken."""

from __future__ import annotations

import pytest

from cameo.errors import EngineError, PhotoTooLarge
from cameo.images import read_photo
from cameo.server.refusals import Hosts
from cameo.workers.calls import WorkOptions
from tests.support.served import png, seconds, serving, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet_clients")]


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
        (form(PART + png(9), PART + png(9)), 400, "the form has 'photo' more than once, expected each field once"),
        (form(*[PART + png(9)] * 10), 400, "the form has too many files, expected at most 1: leave some out"),
        (
            form(PART + png(9), b'name="mask"; filename="a.png"\r\n\r\n' + png(9)),
            400,
            "photo, mask came, expected photo: send a form with a file",
        ),
        (
            form(b'name="size"\r\n\r\n720', PART + png(9)),
            400,
            "test has no option `size` for a call, expected one of `allow_truncated`, `format`, ",
        ),
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
