"""What a server's log and its metrics say of jobs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cameo.errors import OutputError
from cameo.jobs.job import JobOptions
from cameo.jobs.store import Store
from cameo.server.keys import ApiKeys
from cameo.server.limits import ServeOptions
from cameo.server.logs import JsonLines
from tests.cameo.jobs.fake import add
from tests.cameo.server.test_metrics import value
from tests.support.served import Model, bundle_of, photo_server, png, wait_for

Open = Callable[..., TestClient]
NOISE = b"no photo"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "cameo.jobs"):
        yield caplog


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def opened(tmp_path: Path, model: Model) -> Iterator[Open]:
    """Opens a server of the model "test", whose jobs are in `tmp_path`/jobs."""
    with ExitStack() as stack:

        def open_one(keys: ApiKeys | None = None) -> TestClient:
            options = ServeOptions(keys=keys, jobs=JobOptions(tmp_path / "jobs", spare_mib=0))
            bundle = stack.enter_context(bundle_of(model))
            server = stack.enter_context(photo_server(bundle, options=options))
            stack.callback(model.gate.set)
            return TestClient(server.app)

        yield open_one


def lines(log: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in log.records if record.name == "cameo.jobs"]


def facts(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.facts  # type: ignore[attr-defined]
    return found


def send(client: TestClient, *photos: bytes) -> str:
    """The id of a job."""
    files = [("photos", (f"{number}.png", photo)) for number, photo in enumerate(photos)]
    job: str = client.post("/v1/jobs", files=files).json()["id"]
    return job


def ended(client: TestClient, outcome: str) -> float:
    return value(client, "cameo_jobs_ended_total", model="test", outcome=outcome)


def photos(client: TestClient) -> tuple[float, float]:
    """Done and failed."""
    name = "cameo_job_photos_total"
    return value(client, name, model="test", outcome="done"), value(client, name, model="test", outcome="failed")


def left(client: TestClient) -> tuple[float, float]:
    """Jobs and photos that are not done."""
    jobs, waiting = "cameo_jobs_unfinished", "cameo_job_photos_waiting"
    return value(client, jobs, model="test"), value(client, waiting, model="test")


def events(log: pytest.LogCaptureFixture) -> list[str]:
    return [facts(record)["event"] for record in lines(log)]


def test_a_job_is_told_when_it_is_taken_and_when_it_is_done(opened: Open, log: pytest.LogCaptureFixture) -> None:
    client, began = opened(), time.time()
    job = send(client, png(200), NOISE, png(100))
    wait_for(lambda: ended(client, "done") == 1)
    taken, done = map(facts, lines(log))
    assert 0 <= taken["seconds"] <= done["seconds"] <= round(time.time() - began, 3)
    same = {"job": job, "model": "test", "photos": 3}
    of_taken = {"event": "taken", "waiting": 3, "done": 0, "failed": 0, "faces": 0, "seconds": taken["seconds"]}
    of_done = {"event": "done", "waiting": 0, "done": 2, "failed": 1, "faces": 4, "seconds": done["seconds"]}
    assert (taken, done) == ({**same, **of_taken}, {**same, **of_done})
    wait_for(lambda: photos(client) == (2, 1))
    assert left(client) == (0, 0)
    assert value(client, "cameo_jobs_taken_total", model="test") == 1


def test_its_line_is_to_be_read_or_json(opened: Open, log: pytest.LogCaptureFixture) -> None:
    client = opened()
    job = send(client, png(200))
    wait_for(lambda: ended(client, "done") == 1)
    record = lines(log)[-1]
    seconds = facts(record)["seconds"]
    said = f"job {job} done, {seconds:.3f} s, 1 photo (1 done, 0 failed, 0 waiting), model test"
    assert record.getMessage() == said
    line = json.loads(JsonLines().format(record))
    assert (line["level"], line["logger"]) == ("info", "cameo.jobs")
    assert facts(record).items() <= line.items()


def test_a_job_without_any_result_failed(opened: Open, log: pytest.LogCaptureFixture) -> None:
    client = opened()
    send(client, NOISE, NOISE)
    wait_for(lambda: ended(client, "failed") == 1)
    assert events(log) == ["taken", "failed"]
    wait_for(lambda: photos(client) == (0, 2))
    assert ended(client, "done") == 0


def test_a_job_that_is_deleted_amid_its_work_was_cancelled(
    opened: Open, model: Model, log: pytest.LogCaptureFixture
) -> None:
    client = opened()
    model.gate.clear()
    job = send(client, png(1), png(2), png(3))
    assert left(client) == (1, 3)
    client.delete(f"/v1/jobs/{job}")
    assert facts(lines(log)[-1]).items() >= {"event": "cancelled", "job": job, "waiting": 3, "done": 0}.items()
    assert (ended(client, "cancelled"), left(client)) == (1, (0, 0))
    model.gate.set()
    other = send(client, png(4))
    wait_for(lambda: ended(client, "done") == 1)
    client.delete(f"/v1/jobs/{other}")  # which is over already
    assert events(log) == ["taken", "cancelled", "taken", "done"]
    assert (photos(client), ended(client, "cancelled")) == ((1, 0), 1)


def test_jobs_of_the_last_server_are_resumed(opened: Open, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    store = Store(JobOptions(tmp_path / "jobs", spare_mib=0))
    job = add(store, {"a.png": png(1), "b.png": png(2), "c.png": png(3)}, "shop", "test")
    store.failed(job, 0, "it is no photo")
    over, gone = add(store, {"a.png": png(1)}, model="test"), add(store, {"a.png": png(1)}, model="gone")
    store.failed(over, 0, "it is no photo")
    store.close()
    client = opened()
    wait_for(lambda: ended(client, "done") == 1)
    told = {(facts(record)["job"], facts(record)["event"]): facts(record) for record in lines(log)}
    assert set(told) == {(job, "resumed"), (gone, "resumed"), (job, "done")}
    assert told[job, "resumed"].items() >= {"key": "shop", "photos": 3, "waiting": 2, "failed": 1}.items()
    assert told[job, "done"].items() >= {"key": "shop", "photos": 3, "done": 2, "failed": 1}.items()
    assert told[gone, "resumed"]["why_waiting"] == "gone is not served now: start the server with it"
    wait_for(lambda: photos(client) == (2, 0))
    assert left(client) == (0, 0)
    assert value(client, "cameo_jobs_unfinished", model="gone") == 1
    assert value(client, "cameo_job_photos_waiting", model="gone") == 1
    assert value(client, "cameo_jobs_taken_total", model="test") == 0


def test_a_line_says_whose_job_it_is_and_a_model_without_any_has_none_left(
    opened: Open, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "keys").write_text("shop 0123456789abcdef\n")
    client = opened(ApiKeys.of_file(tmp_path / "keys"))
    client.headers["X-API-Key"] = "0123456789abcdef"
    assert 'cameo_job_photos_waiting{model="test"} 0.0' in client.get("/metrics").text
    send(client, png(1))
    assert facts(lines(log)[0])["key"] == "shop"
    assert lines(log)[0].getMessage().endswith(", model test, key shop")


def test_jobs_that_cannot_be_read_do_not_hide_the_other_metrics(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise OutputError("jobs.sqlite cannot be used (database disk image is malformed): free some space")

    client = opened()
    send(client, png(1))
    wait_for(lambda: ended(client, "done") == 1)
    monkeypatch.setattr(Store, "_rows", damaged)
    told = client.get("/metrics")
    assert told.status_code == 200
    assert "cameo_jobs_unfinished" not in told.text
    assert ended(client, "done") == 1
    monkeypatch.undo()
    assert left(client) == (0, 0)
