"""What can be asked of jobs, for the OpenAPI document; in the examples, JOB stands for a job's id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cameo.bulk.results import TABLE

_ABOUT: Final = (
    ("get", "", "the jobs of who asks, the newest first", "200", "application/json"),
    ("get", "/{job}", "how far a job is, and why photos failed", "200", "application/json"),
    ("delete", "/{job}", "remove a job, its photos and its results", "204", ""),
    ("get", "/{job}/results", "a zip of the results so far, and a table", "200", "application/zip"),
    ("get", "/{job}/results/{name}", f"one result, or {TABLE}", "200", "image/*"),
)
_NUMBER: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {"type": "string"}
_JOB: Final = {
    "id": _TEXT,
    "model": _TEXT,
    "state": {"enum": ["running", "done", "failed"], "description": "failed, where every photo did"},
    "created": {"type": "string", "format": "date-time"},
    "finished": {"type": ["string", "null"], "format": "date-time"},
    **dict.fromkeys(("photos", "waiting", "done", "failed", "faces"), _NUMBER),
    "eta_s": {"type": ["number", "null"], "description": "seconds left; null while nothing tells"},
    "why_waiting": {**_TEXT, "description": 'what it waits for, or ""'},
    "results": {**_TEXT, "description": "where they are"},
}
_FAILURE: Final = {"type": "object", "properties": {"photo": _TEXT, "error": _TEXT}}
_ADDED: Final = {
    "post": {"left_out": {"type": "array", "items": _TEXT, "description": "files in zips that are no photos"}},
    "get": {"failures": {"type": "array", "items": _FAILURE}},
}
_REFUSALS: Final = {
    "400": "no photos, a name, a zip or an option that cannot be used, or consent that was not given",
    "401": "no API key that is let in, where the server has any",
    "403": "a page of another site asks",
    "408": "the photos stopped coming",
    "413": "too large, all or one photo",
    "415": "no form",
    "421": "the server does not go by the name in `Host`",
    "500": "the server failed: its log says how",
    "503": "as many jobs as are taken are not done yet",
    "507": "the disk is full",
}


def job_paths(path: str, where: str, key: str, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The addresses below `path`; `key` is what curl needs of an API key, `models` may be asked for."""
    curl = f"curl --fail-with-body {key}"
    paths: dict[str, dict[str, Any]] = {path: {"post": _post(f"{curl}-F photos=@photos.zip {where}{path}", models)}}
    for method, below, summary, status, kind in _ABOUT:
        example = below.replace("{job}", "JOB").replace("{name}", TABLE)
        content: dict[str, Any] = {"content": {kind: {"schema": _schema(below, kind)}}} if kind else {}
        command = f"{curl}-X {method.upper()} {where}{path}{example}"
        missing = {"404": error_answer("no such job, or no more")} if below else {}
        paths.setdefault(path + below, {})[method] = {
            "summary": summary,
            "parameters": [_parameter(name) for name in ("job", "name") if f"{{{name}}}" in below],
            "responses": {status: {"description": summary, **content}, **missing},
            "x-codeSamples": [{"lang": "Shell", "source": command}],
        }
    return paths


def _job(*added: str) -> dict[str, Any]:
    properties = {**_JOB, **{name: schema for method in added for name, schema in _ADDED[method].items()}}
    return {"type": "object", "required": list(properties), "properties": properties}


def _schema(below: str, kind: str) -> dict[str, Any]:
    if kind != "application/json":
        return {"type": "string", "format": "binary"}
    if below:
        return _job("get")
    return {"type": "object", "required": ["jobs"], "properties": {"jobs": {"type": "array", "items": _job()}}}


def _post(command: str, models: Sequence[str]) -> dict[str, Any]:
    photos = {"type": "array", "items": {"type": "string", "format": "binary"}}
    model = {"type": "string", "enum": list(models), "default": models[0]}
    schema = {
        "type": "object",
        "required": ["photos"],
        "properties": {"photos": {**photos, "description": "photos, or zips of them"}, "model": model},
        "description": "and the fields of the model, for every photo",
    }
    accepted = {
        "description": "the job is accepted: `Location` tells how far it is",
        "headers": {"Location": {"schema": _TEXT}},
        "content": {"application/json": {"schema": _job("post")}},
    }
    return {
        "summary": "run a model on many photos",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {"202": accepted, **{status: error_answer(said) for status, said in _REFUSALS.items()}},
        "x-codeSamples": [{"lang": "Shell", "source": command}],
    }


def error_answer(said: str) -> dict[str, Any]:
    """An error's response."""
    return {"description": said, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
