"""Every request has an id, which its answer, its error and the log say; the log is for people, or JSON."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from cameo.log_lines import JsonLines
from cameo.server.keys import ApiKeys
from cameo.server.logs import sayer, write_logs
from tests.cameo.server.conftest import Start
from tests.support.served import png


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, "cameo.access"):
        yield caplog


def facts(log: pytest.LogCaptureFixture) -> dict[str, object]:
    """Of the last request."""
    return log.records[-1].facts  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("name", ["a", "6f1e-4.b_c:d", "x" * 128])
def test_a_sane_id_is_taken(start: Start, log: pytest.LogCaptureFixture, name: str) -> None:
    client = start().client
    answer = client.post("/v1/models/test", content=png(200), headers={"X-Request-Id": name})
    assert (answer.status_code, answer.headers["x-request-id"], facts(log)["request_id"]) == (200, name, name)
    refused = client.post("/v1/models/test", content=b"noise", headers={"X-Request-Id": name})
    assert (refused.headers["x-request-id"], refused.json()["request_id"]) == (name, name)


@pytest.mark.parametrize("name", ["", "-a", "a b", "x" * 129, "a\t", "é", "<script>"])
def test_another_is_made_where_it_is_none(start: Start, name: str) -> None:
    client = start().client
    answers = [client.get("/live", headers={"X-Request-Id": name.encode()}) for _ in range(2)]
    made = [answer.headers["x-request-id"] for answer in answers]
    assert all(len(one) == 16 and one.isalnum() for one in made)
    assert made[0] != made[1]


def test_a_bug_is_logged_with_the_id(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    started = start()
    started.model.error = ZeroDivisionError("inside")
    answer = started.client.post("/run", content=png(9), headers={"X-Request-Id": "the-id"})
    assert (answer.status_code, answer.json()["request_id"]) == (500, "the-id")
    assert "ZeroDivisionError: inside" in caplog.text
    assert "POST '/run' failed (request the-id)" in caplog.text


def test_a_line_says_who_what_how_long_and_memory(start: Start, log: pytest.LogCaptureFixture) -> None:
    sent = png(200)
    answer = start().client.post("/v1/models/test", content=sent)
    found = facts(log)
    assert {name: found[name] for name in ("method", "path", "status", "model", "faces")} == {
        "method": "POST",
        "path": "/v1/models/test",
        "status": 200,
        "model": "test",
        "faces": 2,
    }
    assert (found["received_bytes"], found["sent_bytes"]) == (len(sent), len(answer.content))
    parts = found["parts_s"]
    assert isinstance(parts, dict)
    assert {"waited", "decoded", "ran", "encoded"} <= set(parts)
    assert isinstance(found["memory_mib"], int)
    assert isinstance(found["memory_budget_mib"], int)
    assert 0 <= found["memory_mib"] < found["memory_budget_mib"]
    text = log.records[-1].getMessage()
    assert "testclient POST '/v1/models/test' 200, 0." in text
    assert f"2 faces, memory {found['memory_mib']}/{found['memory_budget_mib']} MiB" in text


def test_a_refusal_says_why(start: Start, log: pytest.LogCaptureFixture) -> None:
    start().client.post("/v1/models/test", content=b"noise")
    assert (facts(log)["status"], facts(log)["reason"]) == (400, "request")
    assert "is not an image" in str(facts(log)["error"])


def test_a_line_is_one_line_whatever_was_asked(start: Start, log: pytest.LogCaptureFixture) -> None:
    client = start().client
    client.get("/%0Aforged%1b[31m")
    client.post("/v1/models/test", files={"photo": png(9)}, data={"a\nforged": "\x1b[31m"})
    for record in log.records[-2:]:
        assert record.getMessage().isprintable()
        line = JsonLines().format(record)
        assert "\n" not in line
        assert "forged" in json.loads(line)["path"] + json.loads(line).get("error", "")


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/metrics"])
def test_probes_do_not_fill_the_log(start: Start, log: pytest.LogCaptureFixture, path: str) -> None:
    client = start(keys=ApiKeys({"me": hashlib.sha256(b"0123456789abcdef").digest()})).client
    assert client.get(path, headers={"X-API-Key": "0123456789abcdef"}).status_code == 200
    assert log.records[-1].levelno == logging.DEBUG


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_a_probe_that_is_refused_is_in_the_log(start: Start, log: pytest.LogCaptureFixture, path: str) -> None:
    start(keys=ApiKeys({"me": b"another"})).client.get(path, headers={"X-API-Key": "guessed"})
    assert (facts(log)["status"], facts(log)["reason"], log.records[-1].levelno) == (401, "key", logging.INFO)


@pytest.mark.parametrize(
    ("form", "is_terminal", "is_json"),
    [("", True, False), ("", False, True), ("text", False, False), ("json", True, True)],
)
def test_the_log_is_text_on_a_terminal_and_json_elsewhere(
    cameo_log: logging.Logger, monkeypatch: pytest.MonkeyPatch, form: str, is_terminal: bool, is_json: bool
) -> None:
    written = io.StringIO()
    written.isatty = lambda: is_terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", written)
    write_logs(form)
    try:
        raise ZeroDivisionError("inside")
    except ZeroDivisionError as error:
        logging.getLogger("cameo.server").error("it failed", exc_info=error)
    logging.getLogger("cameo.server").debug("not said")
    text = written.getvalue()
    assert "not said" not in text
    if is_json:
        line = json.loads(text)
        assert (line["level"], line["logger"], line["message"]) == ("error", "cameo.server", "it failed")
        assert "ZeroDivisionError: inside" in line["traceback"]
    else:
        assert " ERROR it failed\nTraceback" in text


def test_warnings_of_libraries_are_lines_of_the_log(cameo_log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    write_logs("json")
    logging.getLogger("some.library").warning("one")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("two", stacklevel=1)
    one, two = map(json.loads, written.getvalue().splitlines())
    assert (one["logger"], one["message"], two["logger"]) == ("some.library", "one", "py.warnings")
    assert "two" in two["message"]


@pytest.mark.parametrize(
    ("form", "is_terminal", "is_json"),
    [("", True, False), ("", False, True), ("text", False, False), ("json", True, True)],
)
def test_the_start_is_said_in_the_form_of_the_log(
    monkeypatch: pytest.MonkeyPatch, form: str, is_terminal: bool, is_json: bool
) -> None:
    written = io.StringIO()
    written.isatty = lambda: is_terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", written)
    sayer(form)("serving on http://127.0.0.1:80; try: curl")
    text = written.getvalue()
    found = json.loads(text) if is_json else {"message": text.rstrip("\n")}
    assert found["message"] == "serving on http://127.0.0.1:80; try: curl"
    if is_json:
        assert (found["level"], found["logger"], "time" in found) == ("info", "cameo.server", True)
