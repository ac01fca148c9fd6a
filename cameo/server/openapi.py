"""What can be asked, as an OpenAPI document made of what the models declare; its examples are curl lines that run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cameo import __version__
from cameo.declaring import PHOTO, Declaration
from cameo.server.job_openapi import error_answer, job_paths
from cameo.server.keys import key_for_curl
from cameo.server.offers import CONSENT, FORMAT, FORMATS, MODE, QUALITY, TRUNCATED, Offer
from cameo.server.refusals import OPEN

_TYPES: Final = {int: "integer", float: "number", bool: "boolean", str: "string"}
_FILE: Final = {"type": "string", "format": "binary"}
_ERRORS: Final = {
    "400": "a photo that cannot be read, an option that cannot be used, or consent that was not given",
    "401": "no API key that is let in, where the server has any",
    "403": "a page of another site asks",
    "404": "no model of that name is served now",
    "408": "the photo stopped coming",
    "413": "a file or a photo is too large",
    "415": "the body is neither a picture's file nor a form",
    "421": "the server does not go by the name in `Host`",
    "500": "the server failed: its log says how",
    "503": "try again, after `Retry-After` seconds",
    "504": "no result in time",
}


def document(offers: Sequence[Offer], where: str, has_keys: bool, jobs: str = "") -> dict[str, Any]:
    """The document of a server that is reached at `where` ("http://127.0.0.1:8000"), with jobs at the path `jobs`."""
    paths: dict[str, Any] = {f"/v1/models/{offer.name}": _model_path(offer, where, has_keys) for offer in offers}
    for path, summary, statuses in (
        ("/v1/models", "the models, their options, engines and memory", ("200",)),
        ("/live", "whether the server answers at all", ("200",)),
        ("/ready", "whether a call would be taken now", ("200", "503")),
        ("/openapi.json", "this document", ("200",)),
    ):
        paths[path] = {"get": _get(path, summary, statuses, where, has_keys)}
    paths["/metrics"] = {"get": _get("/metrics", "metrics for Prometheus", ("200",), where, has_keys, "text/plain")}
    paths |= job_paths(jobs, where, key_for_curl(has_keys), [offer.name for offer in offers]) if jobs else {}
    for path, methods in paths.items():
        for operation in methods.values():
            everywhere = ("401", "421") if has_keys and path not in OPEN else ("421",)
            for status in everywhere:
                operation["responses"].setdefault(status, error_answer(_ERRORS[status]))
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Cameo", "version": __version__, "description": "Photos in, pictures out."},
        "servers": [{"url": where}],
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if has_keys:
        described["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        described["security"] = [{"bearer": []}, {"header": []}]
    return described


_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "what happened, what was expected, and what to do, in a sentence"},
        "request_id": {"type": "string"},
    },
}


def _get(path: str, summary: str, statuses: Sequence[str], where: str, has_keys: bool, kind: str = "") -> Any:
    needs_key = has_keys and path not in OPEN
    content = {kind or "application/json": {"schema": {"type": "string"} if kind else _TOLD[path]}}
    operation = {
        "summary": summary,
        "responses": {status: {"description": "its state", "content": content} for status in statuses},
        "x-codeSamples": [_curl(f"{key_for_curl(needs_key)}{where}{path}")],
    }
    return operation if needs_key or not has_keys else {**operation, "security": []}


def _model_path(offer: Offer, where: str, has_keys: bool) -> dict[str, Any]:
    path, key = f"{where}/v1/models/{offer.name}", key_for_curl(has_keys)
    return {
        "get": {
            "summary": f"what {offer.name} takes and can be asked for",
            "responses": {"200": {"description": "the model", "content": {"application/json": {"schema": _MODEL}}}},
            "x-codeSamples": [_curl(f"{key}{path}")],
        },
        "post": {
            "summary": f"run {offer.name} on {' and '.join(offer.takes)}",
            "parameters": list(_PARAMETERS),
            "requestBody": {"required": True, "content": _bodies(offer)},
            "responses": {"200": _PICTURE, **{status: error_answer(said) for status, said in _ERRORS.items()}},
            "x-codeSamples": [_curl(f"{key}{example} {path} -o result.{end}") for example, end in _examples(offer)],
        },
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _map(of: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": of}


_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_NUMBER: Final = {"type": "integer", "minimum": 0}
_MODEL: Final = _object(
    name=_TEXT,
    flow=_TEXT,
    takes={**_TEXTS, "description": "photos, by the names of their fields"},
    consent={**_TEXT, "description": 'what those who are shown agree to, or ""'},
    modes=_TEXTS,
    options={"type": "array", "items": _object(name=_TEXT, help=_TEXT, expected=_TEXT, default={})},
    opened={
        "type": "array",
        "items": _object(mode=_TEXT, engines=_map(_TEXT), batches=_map(_TEXT), notes=_TEXTS),
        "description": "how a worker holds it, in each mode that was asked for",
    },
)
_MEMORY: Final = _object(used_bytes=_NUMBER, budget_bytes={"type": ["integer", "null"]})
_WORKER: Final = _object(inside=_NUMBER, breaker=_TEXT, restarts=_NUMBER, memory=_map(_MEMORY))
_TOLD: Final = {
    "/v1/models": _object(models={"type": "array", "items": _MODEL}, workers={"type": "array", "items": _WORKER}),
    "/live": _object(live={"type": "boolean"}),
    "/ready": _object(ready={"type": "boolean"}) | {"description": "`error` says why it is not"},
    "/openapi.json": {"type": "object"},
}
_PARAMETERS: Final = (
    {
        "name": "Accept",
        "in": "header",
        "schema": {"type": "string", "default": "image/png"},
        "description": "the first of image/png, image/jpeg and image/webp in it is what comes back",
    },
    {
        "name": "X-Cameo-Timeout",
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "seconds after which nobody waits for the result; the server's own limit holds as well",
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "schema": {"type": "string", "maxLength": 128},
        "description": "what to call the request in the answer, in errors and in logs",
    },
)
_PICTURE: Final = {
    "description": "the result",
    "headers": {
        "X-Cameo-Faces": {"description": "faces that were worked on", "schema": {"type": "integer"}},
        "X-Cameo-Note": {"description": "what was left undone, percent-encoded", "schema": {"type": "string"}},
        "Server-Timing": {"description": "milliseconds of each part", "schema": {"type": "string"}},
        "X-Request-Id": {"schema": {"type": "string"}},
    },
    "content": {kind: {"schema": _FILE} for kind in FORMATS.values()},
}


def _bodies(offer: Offer) -> dict[str, Any]:
    """A form always; the photo's file as it is where one is enough."""
    bodies: dict[str, Any] = {"multipart/form-data": {"schema": _form(offer)}}
    if len(offer.takes) == 1 and not offer.consent:
        bodies |= {kind: {"schema": dict(_FILE)} for kind in ("image/*", "application/octet-stream")}
    return bodies


def _form(offer: Offer) -> dict[str, Any]:
    """The schema of a model's form."""
    fields: dict[str, Any] = {name: {**_FILE, "description": "a photo"} for name in offer.takes}
    fields |= {one.name: _field(one) for one in offer.per_call}
    fields[MODE] = {"type": "string", "enum": list(offer.modes), "description": "what may be given up for speed"}
    fields[FORMAT] = {"type": "string", "enum": list(FORMATS), "description": "of the result, before Accept"}
    fields[QUALITY] = {"type": "integer", "minimum": 1, "maximum": 100, "description": "of JPEG and WebP"}
    fields[TRUNCATED] = {"type": "boolean", "default": False, "description": "take photos whose files end early"}
    if offer.consent:
        fields[CONSENT] = {"type": "string", "enum": ["yes"], "description": offer.consent}
    required = [*offer.takes, *([CONSENT] if offer.consent else [])]
    return {"type": "object", "required": required, "properties": fields, "additionalProperties": False}


def _field(one: Declaration) -> dict[str, Any]:
    """The schema of an option."""
    if one.kind is PHOTO:
        return {**_FILE, "description": one.help}
    told = {"minimum": one.least, "maximum": one.most, "enum": list(one.choices) or None, "default": one.default}
    if one.step != 1:
        told["multipleOf"] = one.step
    kind: dict[str, Any] = {"type": _TYPES[one.kind], **{k: value for k, value in told.items() if value is not None}}
    if one.none:
        kind = {"anyOf": [kind, {"const": one.none}]}
    return {**kind, "description": f"{one.help}: {one.expected}"}


def _examples(offer: Offer) -> list[tuple[str, str]]:
    """What curl is told to send, the shortest first, and the suffix of what comes back."""
    form = " ".join(f"-F {name}=@{name}.jpg" for name in offer.takes) + (f" -F {CONSENT}=yes" if offer.consent else "")
    said = [f"-F {one.name}={_value(one)}" for one in offer.per_call if one.kind is not PHOTO and _value(one)]
    options = " ".join([form, *said, f"-F {MODE}={offer.modes[0]}", f"-F {FORMAT}=jpeg", f"-F {QUALITY}=90"])
    return [(offer.example, "png"), (options, "jpg"), (f"-H 'Accept: image/webp' {form}", "webp")]


def _value(one: Declaration) -> str:
    """Its default as a field's text; "" where that cannot be written."""
    if one.default is None:
        return one.none
    return ("yes" if one.default else "no") if one.is_switch else str(one.default)


def _curl(arguments: str) -> dict[str, str]:
    return {"lang": "Shell", "source": f"curl --fail-with-body {arguments}"}
