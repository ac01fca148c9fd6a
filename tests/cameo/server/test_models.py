"""Several models behind one address: what they are, what is asked of them by name, and how long a client waits."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image
from starlette.testclient import TestClient

from cameo.declaring import declarations
from cameo.errors import EngineUnavailable
from cameo.flows import flow_module, flow_names
from cameo.images import read_photo
from cameo.server import ServeOptions
from cameo.server.offers import OWN_FIELDS
from cameo.testing import fake_bundle, image_session
from cameo.workers.calls import Served
from tests.cameo.server.conftest import Start
from tests.support.served import Model, bundle_of, photo_server, png, wait_for

SMALL = {"aligned": "yes"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """Of two models: "test", which inverts, and "face", which restores one aligned face of 64 pixels by halving it."""
    halving = {"gpen-bfr-64": image_session(lambda image: image // 2)}
    with ExitStack() as stack:
        inverter = stack.enter_context(bundle_of(Model()))
        restorer = stack.enter_context(fake_bundle(tmp_path / "bundle", "gpen", halving))
        served = Served("test", inverter), Served("face", restorer, options=SMALL)
        yield TestClient(stack.enter_context(photo_server(*served)).app)


def test_each_model_is_asked_by_its_name(client: TestClient) -> None:
    inverted = client.post("/v1/models/test", content=png(200, (64, 64)))
    restored = client.post("/v1/models/face", content=png(200, (64, 64)))
    assert (inverted.headers["x-cameo-model"], set(read_photo(inverted.content).flat)) == ("test", {55})
    assert restored.headers["x-cameo-model"] == "face"
    assert read_photo(restored.content).max() < 150
    assert client.post("/run", content=png(200)).headers["x-cameo-model"] == "test", "the first"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_model_that_is_not_there_is_named_with_those_that_are(client: TestClient, method: str) -> None:
    answer = client.request(method, "/v1/models/other", content=png(9) if method == "POST" else None)
    assert answer.status_code == 404
    assert answer.json()["error"] == "no model 'other' is served here, expected one of test, face"


def test_models_say_what_they_take_and_hold(client: TestClient) -> None:
    client.post("/v1/models/face", content=png(200, (64, 64)))
    told = client.get("/v1/models").json()
    test, face = told["models"]
    assert (test["name"], test["flow"], test["takes"], test["modes"]) == ("test", "inverter", ["photo"], ["quality"])
    assert test["opened"][0]["engines"] == {"net": "fake-inverter fp32"}
    assert "no batch was timed often enough yet" in test["opened"][0]["batches"]["net"]
    options = {option["name"]: option for option in face["options"]}
    assert (options["aligned"]["default"], options["alpha"]["default"]) == (True, 1.0), "as it is served"
    assert options["alpha"]["expected"] == "a number from 0 to 1"
    memory = told["workers"][0]["memory"]["cpu"]
    assert 0 <= memory["used_bytes"] < memory["budget_bytes"]
    assert client.get("/v1/models/face").json()["options"] == face["options"]


def test_an_option_of_another_model_is_refused(client: TestClient) -> None:
    files = {"photo": png(9, (64, 64))}
    assert client.post("/v1/models/face", files=files, data={"alpha": "0.5"}).status_code == 200
    answer = client.post("/v1/models/test", files=files, data={"alpha": "0.5"})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "test has no option `alpha` for a call, expected one of "
        "`allow_truncated`, `format`, `mode`, `quality`, `quiet`.",
    )


def test_the_page_has_a_form_for_each(client: TestClient) -> None:
    page = " ".join(client.get("/").text.split())
    assert "<title>Cameo: test, face</title>" in page
    assert '<form data-model="test">' in page
    assert '<form data-model="face" hidden>' in page
    assert "<option>test</option> <option>face</option>" in page
    assert '<select name="aligned"> <option value="">yes</option> <option>no</option> </select>' in page


@pytest.mark.parametrize(
    ("fields", "media_type"),
    [
        ({"format": "jpeg"}, "image/jpeg"),
        ({"format": "WEBP", "quality": "50"}, "image/webp"),
        ({"format": "png"}, "image/png"),
        ({"format": "jpg"}, "image/jpeg"),
        ({}, "image/webp"),
    ],
)
def test_the_field_format_goes_before_accept(start: Start, fields: dict[str, str], media_type: str) -> None:
    answer = start().client.post(
        "/v1/models/test", files={"photo": png(9)}, data=fields, headers={"Accept": "image/webp"}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


def test_quality_is_that_of_the_file(start: Start, tmp_path: Path) -> None:
    client = start().client
    Image.effect_noise((256, 256), 80).save(tmp_path / "photo.png")
    sizes = []
    for quality in ("30", "95", ""):
        files, data = {"photo": (tmp_path / "photo.png").read_bytes()}, {"format": "jpeg", "quality": quality}
        sizes.append(len(client.post("/v1/models/test", files=files, data=data).content))
    assert sizes[0] < sizes[1] / 2
    assert sizes[1] == sizes[2], "95 is the usual"


def test_a_photo_that_ends_early_is_taken_where_that_is_said(start: Start) -> None:
    client, torn = start().client, io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(torn, "JPEG")
    half = {"photo": torn.getvalue()[: len(torn.getvalue()) // 2]}
    refused = client.post("/v1/models/test", files=half)
    assert refused.status_code == 400
    assert "or take what there is by `allow_truncated`" in refused.json()["error"]
    assert client.post("/v1/models/test", files=half, data={"allow_truncated": "no"}).status_code == 400
    taken = client.post("/v1/models/test", files=half, data={"allow_truncated": "yes"})
    assert taken.status_code == 200
    assert "is truncated" in unquote(taken.headers["X-Cameo-Note"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": "gif"}, "format is 'gif', expected one of png, jpeg, webp"),
        ({"quality": "90"}, "quality is '90', and PNG has none: ask for format=jpeg or format=webp with it"),
        ({"format": "jpeg", "quality": "0"}, "quality is '0', expected a whole number from 1 to 100"),
        ({"format": "jpeg", "quality": "fine"}, "quality is 'fine', expected"),
        ({"format": "jpeg", "quality": "²"}, "quality is '²', expected"),
        ({"allow_truncated": "perhaps"}, "allow_truncated is 'perhaps', expected yes or no"),
        ({"mode": "fast"}, "'fast' is no mode of this bundle of test, expected one of quality"),
        ({"mode": "best"}, "'best' is no mode of test, expected one of quality"),
    ],
)
def test_fields_of_every_model_are_checked_at_the_door(start: Start, fields: dict[str, str], said: str) -> None:
    started = start()
    answer = started.client.post("/v1/models/test", files={"photo": png(9)}, data=fields)
    assert (answer.status_code, answer.json()["error"][: len(said)]) == (400, said)
    assert started.model.ran == 0


@pytest.mark.parametrize(("fields", "status"), [({"mode": "quality"}, 400), ({}, 500)])
def test_a_mode_that_cannot_run_here_is_the_clients_choice(start: Start, fields: dict[str, str], status: int) -> None:
    started = start()
    started.model.error = EngineUnavailable("no engine of the bundle can run net here")
    answer = started.client.post("/v1/models/test", files={"photo": png(9)}, data=fields)
    assert (answer.status_code, answer.json()["error"]) == (status, "no engine of the bundle can run net here")


def test_no_flow_has_an_option_of_a_name_that_every_form_has() -> None:
    for name in flow_names():
        assert not {one.name for one in declarations(flow_module(name).Request)} & set(OWN_FIELDS), name


def test_an_answer_says_where_its_time_went(start: Start) -> None:
    started = time.monotonic()
    answer = start().client.post("/v1/models/test", content=png(9))
    parts = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert {"waited", "decoded", "ran", "encoded"} <= set(parts)
    assert 0 < sum(map(float, parts.values())) < 1000 * (time.monotonic() - started)


def test_a_client_may_wait_less_long(start: Start) -> None:
    started = start(timeout_s=20)
    started.model.gate.clear()
    began = time.monotonic()
    answer = started.client.post("/v1/models/test", content=png(9), headers={"X-Cameo-Timeout": "0.3"})
    assert (answer.status_code, time.monotonic() - began < 2) == (504, True)
    assert "no result within 0." in answer.json()["error"]


def test_who_takes_longer_to_send_than_to_wait_is_told(start: Start) -> None:
    answer = start().client.post("/v1/models/test", content=png(9), headers={"X-Cameo-Timeout": "1e-9"})
    assert (answer.status_code, "took longer to come than 1e-09 s" in answer.json()["error"]) == (504, True)


def test_but_not_longer(start: Start) -> None:
    started = start(timeout_s=0.3)
    started.model.gate.clear()
    began = time.monotonic()
    answer = started.client.post("/v1/models/test", content=png(9), headers={"X-Cameo-Timeout": "60"})
    assert (answer.status_code, time.monotonic() - began < 2) == (504, True)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", ""])
def test_a_time_that_is_none_is_refused(start: Start, value: str) -> None:
    answer = start().client.post("/v1/models/test", content=png(9), headers={"X-Cameo-Timeout": value})
    assert answer.status_code == 400
    assert f"X-Cameo-Timeout is {value!r}, expected seconds above 0, such as 30" in answer.json()["error"]


def test_who_comes_too_late_to_be_let_in_is_told_before_the_photo_is_read(start: Start) -> None:
    """The second photo is no picture: it is not even looked at."""
    started = start(queue=1)
    started.model.gate.clear()
    with ThreadPoolExecutor(1) as clients:
        first = clients.submit(started.client.post, "/run", content=png(200))
        wait_for(lambda: inside(started.client) == 1)
        refused = started.client.post("/run", content=b"no picture", headers={"Content-Type": "application/json"})
        assert refused.status_code == 503
        started.model.gate.set()
        assert first.result().status_code == 200


def inside(client: TestClient) -> Any:
    return client.get("/health").json()["inside"]


def test_a_server_is_ready_while_its_queue_is_full(start: Start) -> None:
    started = start(queue=1)
    started.model.gate.clear()
    with ThreadPoolExecutor(1) as clients:
        first = clients.submit(started.client.post, "/run", content=png(200))
        wait_for(lambda: inside(started.client) == 1)
        assert started.client.get("/ready").json() == {"ready": True}
        started.model.gate.set()
        assert first.result().status_code == 200


def test_a_server_that_ends_takes_nothing_more(start: Start) -> None:
    started = start()
    assert started.server.close(5)
    answer = started.client.post("/run", content=png(9))
    assert (answer.status_code, "ending" in answer.json()["error"]) == (503, True)
    assert int(answer.headers["retry-after"]) >= 1
    assert started.client.get("/live").json() == {"live": True}


def test_options_default() -> None:
    assert ServeOptions().crew.queue == ServeOptions().queue
