"""Face fusion over HTTP: two photos and their references in a form, each within the server's limits."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cameo.flows.face_fusion import GENERATOR, RECOGNISER, SHAPES
from cameo.images import read_photo
from cameo.server import ServeOptions
from cameo.testing import FakeSession, fake_bundle
from cameo.workers.calls import WorkOptions
from tests.cameo.flows.fusion_parts import recogniser, shapes
from tests.support.served import photo_server

PHOTO = (Path(__file__).parents[3] / "demo" / "photo.jpg").read_bytes()
FORM = {"template": PHOTO, "face": PHOTO}
YES = {"consent": "yes"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    darkening = FakeSession(lambda image, **_: {"result": image // 2})
    networks = {GENERATOR: darkening, RECOGNISER: recogniser(), SHAPES: shapes()}
    with fake_bundle(tmp_path_factory.mktemp("served"), "face-fusion", networks) as bundle:
        limits, work = ServeOptions(max_upload_mib=1), WorkOptions(max_megapixels=1)
        with photo_server(bundle, options=limits, work=work) as server:
            yield TestClient(server.app)


def refused(client: TestClient, files: dict[str, bytes], fields: dict[str, str] = YES) -> tuple[int, str]:
    answer = client.post("/run", files=files, data=fields)
    return answer.status_code, answer.json()["error"]


def large() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1100, 1000)).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_option_of_a_call_is_a_field(client: TestClient) -> None:
    options = {"strength": "0.5", "match_color": "yes", "no_enhance": "on", "size_rule": "short-1024", "face_face": "1"}
    answer = client.post("/run", files={**FORM, "template_reference": PHOTO}, data={**YES, **options})
    assert (answer.status_code, answer.headers["x-cameo-faces"]) == (200, "1")
    assert "face 1 of 1 was taken: its cosine to the reference is 1.00" in unquote(answer.headers["x-cameo-note"])
    assert b"compositeWithTrainedAlgorithmicMedia" in answer.content
    off = np.abs(read_photo(answer.content).astype(int) - read_photo(PHOTO))
    assert off.any()
    assert not off[300:].any()


@pytest.mark.parametrize("name", ["template", "face", "template_reference", "face_reference"])
def test_the_limit_of_pixels_is_for_every_picture(client: TestClient, name: str) -> None:
    status, said = refused(client, {**FORM, name: large()})
    assert (status, said[: said.index(",")]) == (413, f"The photo '{name}' is 1100x1000")


@pytest.mark.parametrize("name", ["template", "face_reference"])
def test_the_limit_of_bytes_is_for_every_file(client: TestClient, name: str) -> None:
    said = f"the file of '{name}' is larger than 1 MiB: shrink it, or save it as JPEG"
    assert refused(client, {**FORM, name: bytes(2**20 + 1)}) == (413, said)


def test_all_files_together_are_limited_before_they_have_come(client: TestClient) -> None:
    status, said = refused(client, dict.fromkeys(("template", "face"), bytes(3 * 2**20)))
    assert (status, said) == (
        413,
        "what was sent, for 4 files at most, is larger than 4 MiB: shrink it, or save it as JPEG",
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("face", b"", "The photo 'face' is empty"),
        ("template", b"noise", "The photo 'template' is not an image that can be read"),
        ("face_reference", PHOTO[:20_000], "The photo 'face_reference' is damaged"),
    ],
)
def test_the_picture_that_cannot_be_read_is_named(client: TestClient, name: str, content: bytes, said: str) -> None:
    status, error = refused(client, {**FORM, name: content})
    assert (status, error[: len(said)]) == (400, said)


@pytest.mark.parametrize("name", ["face", "template_reference"])
def test_a_path_is_no_picture(client: TestClient, name: str) -> None:
    files = {key: content for key, content in FORM.items() if key != name}
    said = f"{name} came as text, expected a picture: send its file"
    assert refused(client, files, {**YES, name: "/etc/hostname"}) == (400, said)


def test_one_body_is_not_two_photos(client: TestClient) -> None:
    answer = client.post("/run", content=PHOTO, headers={"Content-Type": "image/jpeg"})
    said = "one photo came, expected template and face: send a form with a file for each"
    assert (answer.status_code, answer.json()["error"]) == (400, said)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=other"])
def test_a_form_that_is_none_is_answered_and_not_logged(client: TestClient, kind: str) -> None:
    handlers = logging.getLogger("python_multipart").handlers
    assert any(isinstance(one, logging.NullHandler) for one in handlers), "else its warnings are printed"
    answer = client.post("/run", content=b"--X\r\n\r\n--X--\r\n", headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the form cannot be read")
