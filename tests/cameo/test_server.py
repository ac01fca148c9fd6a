"""Serving: results, refusals, and a queue that does not grow."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import Base
from starlette.testclient import TestClient

from cameo.errors import EngineError
from cameo.images import read_photo
from cameo.server import ServeOptions
from cameo.testing import InProcess, fake_bundle, image_session
from cameo.workers.calls import Served, WorkOptions
from cameo.workers.crew import Crew
from cameo.workers.work import Work
from tests.support.served import Model, bundle_of, photo_server, png, wait_for

Start = Callable[..., tuple[Model, TestClient]]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as servers:

        def started(
            flow: str = "inverter", name: str = "test", max_megapixels: int = 50, **options: Any
        ) -> tuple[Model, TestClient]:
            model = Model()
            servers.callback(lambda: closed(model))
            folder = servers.enter_context(bundle_of(model, flow))
            server = servers.enter_context(
                photo_server(
                    Served(name, folder),
                    options=ServeOptions(**options),
                    work=WorkOptions(max_megapixels=max_megapixels),
                )
            )
            servers.callback(model.gate.set)
            return model, TestClient(server.app)

        yield started


def closed(model: Model) -> None:
    assert model.closed


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "image/png"), ("image/avif,image/webp;q=0.9", "image/webp"), ("image/jpeg", "image/jpeg")],
)
def test_a_photo_comes_back_in_the_format_asked_for(start: Start, accept: str, media_type: str) -> None:
    _, client = start()
    answer = client.post("/run", content=png(200), headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert abs(int(read_photo(answer.content).mean()) - 55) <= 1
    assert (answer.headers["x-cameo-faces"], answer.headers["x-cameo-note"]) == ("2", "Gr%C3%BCn%3A%20100%20%25.")


def test_a_note_is_a_header_where_there_is_one(start: Start) -> None:
    _, client = start()
    assert "x-cameo-note" in client.post("/run", files={"photo": png(200)}).headers
    assert "x-cameo-note" not in client.post("/run", files={"photo": png(200)}, data={"quiet": "yes"}).headers


def test_a_form_brings_every_photo_and_every_option_of_a_call(start: Start) -> None:
    _, client = start("mixer")
    files = {"template": png(200), "face": png(100), "mask": png(9)}
    answer = client.post("/run", files=files, data={"share": "0.5"})
    assert (answer.status_code, answer.headers["x-cameo-note"]) == (200, "0.5%20masked")
    assert set(read_photo(answer.content).flat) == {125}
    page = client.get("/").text
    assert all(f'name="{name}"' in page for name in ("template", "face", "mask", "share"))
    refused = client.post("/run", content=b"{}", headers={"Content-Type": "application/json"})
    assert "curl -F template=@template.jpg -F face=@face.jpg http" in refused.json()["error"]


@pytest.mark.parametrize(
    ("files", "fields", "said"),
    [
        ({"template": png(9)}, {}, "template came without face: send a file of that name too"),
        (
            {"template": png(9), "face": png(9), "hat": png(9)},
            {},
            "template, face, hat came, expected template and face",
        ),
        (
            {"template": png(9), "face": png(9)},
            {"share": "2"},
            "Option `share` of test is 2.0, expected a number from 0 to 1",
        ),
        ({"template": png(9), "face": png(9)}, {"share": "much"}, "Option `share` of test is 'much'"),
        ({"template": png(9), "face": png(9)}, {"mask": "/etc/hostname"}, "mask came as text, expected a picture"),
    ],
)
def test_what_a_call_cannot_be_is_refused_by_name(
    start: Start, files: dict[str, bytes], fields: dict[str, str], said: str
) -> None:
    _, client = start("mixer")
    answer = client.post("/run", files=files, data=fields)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_field_may_be_called_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    networks = {"gpen-inpainting-64": image_session(lambda i: i)}
    with fake_bundle(tmp_path / "bundle", "gpen-face", networks) as bundle, photo_server(bundle) as server:
        answer = TestClient(server.app).post("/run", files={"photo": png(9, (64, 64))}, data={"self": "x"})
    assert (answer.status_code, "has no option `self`" in answer.text, caplog.text) == (400, True, "")


def test_one_photo_alone_is_not_enough_for_two(start: Start) -> None:
    _, client = start("mixer")
    answer = client.post("/run", content=png(9))
    assert answer.status_code == 400
    assert "one photo came, expected template and face: send a form with a file for each" in answer.json()["error"]


def test_what_the_photos_file_says_reaches_the_answer(start: Start) -> None:
    _, client = start()
    exif = Image.Exif()
    exif[Base.Copyright] = "The photographer"
    answer = client.post("/run", content=with_exif(exif))
    assert Image.open(io.BytesIO(answer.content)).getexif()[Base.Copyright] == "The photographer"


def with_exif(exif: Image.Exif) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_health_and_page(start: Start) -> None:
    _, client = start()
    assert client.get("/health").json() == {"model": "test", "engines": {"net": "fake-inverter fp32"}, "inside": 0}
    assert "<h1>test</h1>" in client.get("/").text


def test_a_models_name_is_text_in_the_page(start: Start) -> None:
    _, client = start(name="<script>alert('MODEL')</script>")
    assert "<h1>&lt;script&gt;alert(" in client.get("/").text
    assert "<script>alert" not in client.get("/").text


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b"no photo", 400, "not an image"),
        (png(1, (1500, 1000)), 413, "expected at most 1,000,000"),
        (os.urandom(2**20 + 1), 413, "larger than 1 MiB"),
        (png(0), 500, "the engine failed"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence_and_leaves_no_trace(
    start: Start, body: bytes, status: int, said: str
) -> None:
    _, client = start(max_upload_mib=1, max_megapixels=1)
    answer = client.post("/run", content=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert client.get("/health").json()["inside"] == 0
    assert client.post("/run", content=png(9)).status_code == 200


def test_other_paths_and_methods_are_refused_in_json(start: Start) -> None:
    _, client = start()
    assert client.get("/run").json()["error"] == "GET is not possible at '/run', expected POST"
    nowhere = client.get("/nowhere")
    assert nowhere.status_code == 404
    assert nowhere.json()["error"] == "there is nothing at '/nowhere': /openapi.json lists what there is"


@pytest.mark.parametrize(
    ("path", "allowed"), [("/run", "POST"), ("/ready", "GET, HEAD"), ("/v1/models/test", "GET, HEAD, POST")]
)
def test_a_method_that_is_not_allowed_is_told_those_that_are(start: Start, path: str, allowed: str) -> None:
    _, client = start()
    answer = client.delete(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_only_so_many_are_let_in(start: Start) -> None:
    model, client = start(queue=3)
    model.gate.clear()
    with ThreadPoolExecutor(3) as clients:
        inside = [clients.submit(client.post, "/run", content=png(value)) for value in (1, 2, 3)]
        wait_for(lambda: client.get("/health").json()["inside"] == 3)
        refused = client.post("/run", content=png(4))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "3 photos are inside" in refused.json()["error"]
        model.gate.set()
        assert [job.result().status_code for job in inside] == [200, 200, 200]
    assert client.post("/run", content=png(4)).status_code == 200


def test_who_waits_too_long_is_told_and_never_run(start: Start) -> None:
    model, client = start(timeout_s=0.3)
    model.gate.clear()
    with ThreadPoolExecutor(2) as clients:
        both = [clients.submit(client.post, "/run", content=png(value)) for value in (1, 2)]
        assert [job.result().status_code for job in both] == [504, 504]
    assert client.get("/health").json()["inside"] == 1, "the one that runs keeps its place until it is done"
    model.gate.set()
    wait_for(lambda: client.get("/health").json()["inside"] == 0)
    assert model.ran == 1


def test_a_model_that_does_not_open_leaves_no_thread() -> None:
    class Fails(Work):
        def open(self) -> None:
            raise EngineError("no engine")

    before = threading.active_count()
    crew = Crew([lambda: InProcess(Fails([], WorkOptions()))])
    with pytest.raises(EngineError, match="no engine"):
        crew.open()
    assert crew.close(1)
    wait_for(lambda: threading.active_count() == before)
