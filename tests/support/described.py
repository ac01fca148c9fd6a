"""Whether what a server tells is as its OpenAPI document describes it."""

from __future__ import annotations

from typing import Any

_KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def unlike(value: Any, schema: dict[str, Any], where: str = "it") -> list[str]:
    """How a value differs from a schema: its kinds, and the names in objects, of which none may be left out."""
    kinds = schema.get("type", [])
    if kinds and not any(isinstance(value, _KINDS[kind]) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return [f"{where} is {value!r}, expected {kinds}"]
    if value not in schema.get("enum", [value]):
        return [f"{where} is {value!r}, expected one of {schema['enum']}"]
    if isinstance(value, list):
        return [told for n, one in enumerate(value) for told in unlike(one, schema["items"], f"{where}[{n}]")]
    if isinstance(value, dict) and "properties" in schema:
        if set(value) != set(schema["properties"]) or set(schema["required"]) != set(value):
            return [f"{where} has {sorted(value)}, expected {sorted(schema['properties'])}"]
        return [told for name, one in value.items() for told in unlike(one, schema["properties"][name], name)]
    if isinstance(value, dict) and "additionalProperties" in schema:
        return [told for name, one in value.items() for told in unlike(one, schema["additionalProperties"], name)]
    return []
