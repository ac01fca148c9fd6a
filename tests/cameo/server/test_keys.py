"""API keys: only who has one may ask, and the files that list them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cameo.errors import RequestError
from cameo.server.keys import ApiKeys
from tests.cameo.server.conftest import Start
from tests.support.served import png

SHOP, OTHER = "Zk3yOq8Vd5oZ2v4XnF1m", "another-key-of-20-ch"


def keys(tmp_path: Path, text: str = f"# of the shop\nshop {SHOP}  # until May\n\n{OTHER}\n") -> ApiKeys:
    (tmp_path / "keys").write_text(text)
    return ApiKeys.of_file(tmp_path / "keys")


@pytest.mark.parametrize("header", [{"Authorization": f"Bearer {SHOP}"}, {"X-API-Key": OTHER}])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/models/test"), ("POST", "/run"), ("GET", "/v1/models")])
def test_who_has_a_key_is_let_in(start: Start, tmp_path: Path, header: dict[str, str], method: str, path: str) -> None:
    started = start(keys=keys(tmp_path))
    content = png(200) if method == "POST" else None
    assert started.client.request(method, path, content=content, headers=header).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": SHOP},
        {"Authorization": f"Basic {SHOP}"},
        {"Authorization": f"Bearer {SHOP[:-1]}"},
        {"Authorization": "Bearer "},
        {"X-API-Key": "shop"},
        {"X-API-Key": ""},
        {"X-API-Key": "nö", "Authorization": f"Bearer {SHOP}"},
    ],
)
def test_others_are_refused_before_anything_is_done(start: Start, tmp_path: Path, header: dict[str, str]) -> None:
    started = start(keys=keys(tmp_path))
    raw = {name: value.encode() for name, value in header.items()}
    for method, path in (("POST", "/run"), ("GET", "/metrics"), ("GET", "/health"), ("GET", "/nowhere")):
        answer = started.client.request(method, path, content=png(200) if method == "POST" else None, headers=raw)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "has no API key that is let in" in answer.json()["error"]
    assert started.model.ran == 0


@pytest.mark.parametrize("path", ["/live", "/ready", "/"])
def test_what_tells_how_the_server_is_needs_none(start: Start, tmp_path: Path, path: str) -> None:
    assert start(keys=keys(tmp_path)).client.get(path).status_code == 200


def test_the_page_asks_for_a_key_where_one_is_needed(start: Start, tmp_path: Path) -> None:
    assert 'id="key"' in start(keys=keys(tmp_path)).client.get("/").text


def test_the_page_of_an_open_server_asks_for_none(start: Start) -> None:
    assert 'id="key"' not in start().client.get("/").text


def test_only_hashes_are_kept(tmp_path: Path) -> None:
    found = keys(tmp_path)
    assert list(found.digests) == ["shop", f"key-{hashlib.sha256(OTHER.encode()).hexdigest()[:8]}"]
    assert SHOP not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# none\n", "has no API key, expected one on each line: make one with python -c"),
        ("short", "line 1 of .* has a key of 5 characters, expected at least 16"),
        (f"\na b {SHOP}", "line 2 of .* is no API key"),
        (f"a/b {SHOP}", "line 1 of .* is no API key"),
        (
            f"bob: {SHOP}",
            "expected one of ASCII characters, or a name of letters, digits, '.', '_' and '-', a space and",
        ),
        (f"a {SHOP}\nb {SHOP}", "line 2 of .* has a name or a key once more"),
        (f"a {SHOP}\na {OTHER}", "line 2 of .* has a name or a key once more"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        keys(tmp_path, text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="missing cannot be read"):
        ApiKeys.of_file(tmp_path / "missing")
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="noise cannot be read"):
        ApiKeys.of_file(tmp_path / "noise")
