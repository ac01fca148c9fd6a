"""What Prometheus reads, in a format that its own parser takes."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.cameo.server.conftest import Start
from tests.support.served import png

WANTED = (
    "cameo_requests",
    "cameo_refusals",
    "cameo_faces",
    "cameo_request_seconds",
    "cameo_call_seconds",
    "cameo_calls_waiting",
    "cameo_calls_inside",
    "cameo_wait_seconds",
    "cameo_uploads_bytes",
    "cameo_ready",
    "cameo_jobs_taken",
    "cameo_jobs_ended",
    "cameo_job_photos",
    "cameo_breaker",
    "cameo_worker_restarts",
    "cameo_memory_used_bytes",
    "cameo_memory_budget_bytes",
    "cameo_model_open",
    "cameo_batches",
    "cameo_oom_recoveries",
    "cameo_model_loads",
    "process_resident_memory_bytes",
)


def samples(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(client: TestClient, name: str, **labels: str) -> float:
    return samples(client).get((name, tuple(sorted(labels.items()))), 0.0)


def test_all_that_was_asked_for_is_there_and_said_what_it_is(start: Start) -> None:
    client = start().client
    client.post("/v1/models/test", content=png(200))
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert set(WANTED) <= set(families)
    assert all(families[name].documentation for name in WANTED)


def test_answers_are_counted_and_timed_by_model(start: Start) -> None:
    client = start().client
    for _ in range(3):
        client.post("/v1/models/test", content=png(200))
    client.post("/run", content=png(200))
    path = "/v1/models/{model}"
    assert value(client, "cameo_requests_total", route=path, model="test", status="200") == 3
    assert value(client, "cameo_requests_total", route="/run", model="test", status="200") == 1
    assert value(client, "cameo_faces_total", model="test") == 8
    assert value(client, "cameo_request_seconds_count", model="test") == 4
    whole = value(client, "cameo_request_seconds_sum", model="test")
    parts = [value(client, "cameo_call_seconds_sum", model="test", part=part) for part in ("decoded", "ran", "encoded")]
    assert all(parts)
    assert sum(parts) < whole
    assert value(client, "cameo_batches_total", worker="0", rows="1") == 4
    assert value(client, "cameo_model_open", worker="0", model="test", mode="quality") == 1
    assert value(client, "cameo_breaker", worker="0", state="closed") == 1


@pytest.mark.parametrize(
    ("path", "sent", "reason", "model"),
    [
        ("/run", {"content": b"noise"}, "request", "test"),
        ("/run", {"content": b"{}", "headers": {"Content-Type": "application/json"}}, "type", "test"),
        ("/run", {"content": bytes(2**20 + 1)}, "too_large", "test"),
        ("/run", {"content": png(0)}, "failed", "test"),
        ("/run?a=b", {"content": png(9)}, "request", ""),
        ("/v1/models/none", {"content": png(9)}, "path", ""),
        ("/live", {"content": png(9)}, "method", ""),
        ("/run", {"content": png(9), "headers": {"Origin": "http://evil.example"}}, "origin", ""),
    ],
)
def test_refusals_are_counted_by_reason(
    start: Start, path: str, sent: dict[str, object], reason: str, model: str
) -> None:
    client = start(max_upload_mib=1).client
    assert client.post(path, **sent).status_code >= 400  # type: ignore[arg-type]
    assert value(client, "cameo_refusals_total", model=model, reason=reason) == 1
    assert value(client, "cameo_request_seconds_count", model="test") == 0


def test_addresses_that_nobody_serves_are_one_label(start: Start) -> None:
    client = start().client
    for number in range(5):
        client.get(f"/{number}")
    assert value(client, "cameo_requests_total", route="other", model="", status="404") == 5


def test_who_asks_for_openmetrics_gets_it(start: Start) -> None:
    answer = start().client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "cameo_ready" in {family.name for family in open_metrics(answer.text)}


def test_two_servers_of_one_process_count_apart(start: Start) -> None:
    first, second = start().client, start("mixer").client
    first.post("/run", content=png(200))
    assert value(first, "cameo_faces_total", model="test") == 2
    assert value(second, "cameo_faces_total", model="test") == 0
