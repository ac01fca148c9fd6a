"""What can be asked of jobs, for the OpenAPI document; in the examples, JOB stands for a job's id."""

from __future__ import annotations

from typing import Any, Final

from cameo.bulk.results import TABLE

_ABOUT: Final = (
    ("get", "", "the jobs of who asks, the newest first", "200", "application/json"),
    ("get", "/{job}", "how far a job is, and why photos failed", "200", "application/json"),
    ("delete", "/{job}", "remove a job, its photos and its results", "204", ""),
    ("get", "/{job}/results", "a zip of the results so far, and a table", "200", "application/zip"),
    ("get", "/{job}/results/{name}", f"one result, or {TABLE}", "200", "image/*"),
)
_STATUSES: Final = {
    "202": "the job is accepted: `Location` tells how far it is",
    "400": "no photos, a name, a zip or an option that cannot be used, or consent that was not given",
    "413": "too large, all or one photo",
    "503": "as many jobs as are taken are not done yet",
    "507": "the disk is full",
}


def job_paths(path: str, where: str, key: str) -> dict[str, dict[str, Any]]:
    """The addresses below `path`; `key` is what curl needs of an API key."""
    curl = f"curl --fail-with-body {key}"
    paths: dict[str, dict[str, Any]] = {path: {"post": _post(f"{curl}-F photos=@photos.zip {where}{path}")}}
    for method, below, summary, status, kind in _ABOUT:
        example = below.replace("{job}", "JOB").replace("{name}", TABLE)
        content: dict[str, Any] = {"content": {kind: {"schema": {}}}} if kind else {}
        command = f"{curl}-X {method.upper()} {where}{path}{example}"
        paths.setdefault(path + below, {})[method] = {
            "summary": summary,
            "parameters": [_parameter(name) for name in ("job", "name") if f"{{{name}}}" in below],
            "responses": {status: {"description": summary, **content}},
            "x-codeSamples": [{"lang": "Shell", "source": command}],
        }
    return paths


def _post(command: str) -> dict[str, Any]:
    photos = {"type": "array", "items": {"type": "string", "format": "binary"}}
    fields = {"photos": {**photos, "description": "photos, or zips of them"}, "model": {"type": "string"}}
    schema = {
        "type": "object",
        "required": ["photos"],
        "properties": fields,
        "description": "and the fields of the model, for every photo",
    }
    return {
        "summary": "run a model on many photos",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {status: {"description": said} for status, said in _STATUSES.items()},
        "x-codeSamples": [{"lang": "Shell", "source": command}],
    }


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
