"""The OpenAPI document: complete, and its examples run as they are written."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cameo.server.exchange import HUNG_UP
from cameo.server.keys import ApiKeys
from cameo.server.refusals import REASONS
from tests.cameo.server.conftest import Start, Started
from tests.support.described import unlike
from tests.support.served import serving

KEY = "a-key-for-the-tests-only"


def document(started: Started) -> dict[str, Any]:
    found = started.client.get("/openapi.json").json()
    assert isinstance(found, dict)
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_of_version_1_is_described(start: Start) -> None:
    started = start()
    described = {path.replace("models/test", "models/{model}") for path in document(started)["paths"]}
    routes = {route.path for route in started.server.routes}
    assert routes - described == {"/run", "/health", "/"}, "aliases, and what is for people"
    assert described <= routes


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/test", "/live", "/ready", "/openapi.json"])
def test_what_is_told_is_as_it_is_described(start: Start, path: str) -> None:
    started = start("mixer")
    answer = document(started)["paths"][path]["get"]["responses"]["200"]
    assert not unlike(started.client.get(path).json(), answer["content"]["application/json"]["schema"])


def test_a_form_has_what_the_model_declares(start: Start) -> None:
    operation = document(start("mixer"))["paths"]["/v1/models/test"]["post"]
    bodies = operation["requestBody"]["content"]
    assert list(bodies) == ["multipart/form-data"], "two photos are no body"
    form = bodies["multipart/form-data"]["schema"]
    assert form["required"] == ["template", "face"]
    assert form["properties"]["share"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 1.0,
        "description": "how much: a number from 0 to 1",
    }
    assert form["properties"]["mask"]["format"] == "binary"
    assert form["additionalProperties"] is False


def test_a_body_is_one_photo_where_that_is_enough(start: Start) -> None:
    bodies = document(start())["paths"]["/v1/models/test"]["post"]["requestBody"]["content"]
    assert set(bodies) == {"multipart/form-data", "image/*", "application/octet-stream"}


def test_every_refusal_of_a_photo_is_described(start: Start) -> None:
    answers = document(start())["paths"]["/v1/models/test"]["post"]["responses"]
    assert {int(status) for status in answers} == {200, *REASONS} - {405, HUNG_UP}, "POST may be asked; nobody is left"


def test_references_lead_somewhere(start: Start) -> None:
    found = document(start())
    for _, _, operation in operations(found):
        for answer in operation["responses"].values():
            reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
            assert reference in (None, "#/components/schemas/Error")
    assert set(found["components"]["schemas"]) == {"Error"}


def test_keys_are_described_where_there_are_any(start: Start, tmp_path: Path) -> None:
    assert "security" not in document(start())
    (tmp_path / "keys").write_text(KEY)
    started = start("mixer", keys=ApiKeys.of_file(tmp_path / "keys"))
    assert started.client.get("/openapi.json").status_code == 401
    found = started.client.get("/openapi.json", headers={"X-API-Key": KEY}).json()
    assert found["security"] == [{"bearer": []}, {"header": []}]
    assert found["paths"]["/live"]["get"]["security"] == []


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize(("flow", "has_keys"), [("inverter", False), ("mixer", False), ("inverter", True)])
def test_its_examples_run(flow: str, has_keys: bool, tmp_path: Path) -> None:
    for name in ("photo", "template", "face"):
        Image.new("RGB", (8, 8), "teal").save(tmp_path / f"{name}.jpg")
    (tmp_path / "keys").write_text(KEY)
    keys = ApiKeys.of_file(tmp_path / "keys") if has_keys else None
    with serving(flow=flow, keys=keys) as server:
        _, found, _ = server.ask("GET", "/openapi.json", X_API_Key=KEY)
        ran = 0
        for _, method, operation in operations(found):
            for sample in operation["x-codeSamples"]:
                command = shlex.split(sample["source"].replace("Bearer KEY", f"Bearer {KEY}"))
                done = subprocess.run([*command, "-sS"], cwd=tmp_path, capture_output=True, check=False)
                assert done.returncode == 0, f"{sample['source']}: {done.stderr.decode()}"
                if method == "post":
                    result = tmp_path / command[command.index("-o") + 1]
                    with Image.open(result) as picture:
                        assert picture.format == {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[result.suffix]
                    result.unlink()
                ran += 1
        assert ran >= 9
