"""JSON into dataclasses, strictly: what the type hints say, no field too many, none too few (docs/decisions/120).

    str                   one line of at most 4096 printable characters; none that steers a terminal, no half surrogate
    int                   a whole number from 0 to 2^53, never true or false
    X | None, tuple[X, ...], Mapping[str, X], a dataclass
    Any                   any JSON of bounded depth

A dataclass that insists on more has a method `check()`, which raises SchemaError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Final, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")

_DEPTH: Final = 32
_LINE: Final = 4096
_WHOLE: Final = 2**53  # beyond it, JSON readers that count in float64 disagree


class SchemaError(ValueError):
    """Says which value is not what it must be, as "networks.head.onnx.bytes is true, expected a whole number"."""


def strict_json(text: str) -> Any:
    """The value of a JSON text without NaN, Infinity or a name that is given twice.

    Raises:
        SchemaError: it is not such a text.
    """
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise SchemaError(f"it is nested deeper than {_DEPTH} levels") from None
    except SchemaError:
        raise
    except ValueError as error:  # also a whole number of thousands of digits
        raise SchemaError(f"it is not JSON ({error})") from None


def _no_number(name: str) -> NoReturn:
    raise SchemaError(f"it holds {name}, which is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise SchemaError(f"it gives the name {next(n for n in names if names.count(n) > 1)!r:.80} twice")
    return found


def parse(kind: type[Kind], value: object, where: str = "") -> Kind:
    """`value`, made of what JSON is made of, as a `kind`; `where` names it in errors.

    Raises:
        SchemaError: it is not what the type hints say.
    """
    return cast(Kind, _parse(kind, value, where))


def _parse(kind: Any, value: object, where: str) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return _bounded(value, where)
    if kind is str or kind is int:
        return _scalar(kind, value, where)
    if is_dataclass(kind):
        return _dataclass(cast(type, kind), value, where)
    if origin is UnionType:
        return _union(arguments, value, where)
    if origin is tuple:
        items = _typed(list, value, where)
        return tuple(_parse(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(items))
    if origin is Mapping:
        return {
            _scalar(str, name, where): _parse(arguments[1], item, _join(where, name))
            for name, item in _typed(dict, value, where).items()
        }
    raise TypeError(f"{where}: the schema has no {kind}")


def _scalar(kind: type, value: object, where: str) -> object:
    if kind is str and isinstance(value, str) and len(value) <= _LINE and (value.isprintable() or not value):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _WHOLE:
        return value
    expected = {str: f"a line of at most {_LINE} printable characters", int: f"a whole number from 0 to {_WHOLE}"}
    raise SchemaError(f"{where} is {_said(value)}, expected {expected[kind]}")


def _union(kinds: tuple[Any, ...], value: object, where: str) -> object:
    """The one that JSON tells apart by type: None, a string, a whole number or something else."""
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    return _parse(next((kind for kind in others if kind is type(value)), others[0]), value, where)


def _dataclass(kind: type, value: object, where: str) -> object:
    given = _typed(dict, value, where)
    hints = get_type_hints(kind)
    expected = [field.name for field in fields(kind)]
    missing = [name for name in expected if name not in given]
    extra = [name for name in given if name not in hints]
    if missing or extra:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(map(_said, extra))}"
        raise SchemaError(f"{where or 'it'} {wrong}, expected {', '.join(expected)}")
    made = kind(**{name: _parse(hints[name], given[name], _join(where, name)) for name in expected})
    if hasattr(made, "check"):
        try:
            made.check()
        except SchemaError as error:
            raise SchemaError(_join(where, str(error))) from None
    return made


def _typed(kind: type, value: object, where: str) -> Any:
    if not isinstance(value, kind):
        raise SchemaError(f"{where or 'it'} is {_said(value)}, expected {'a list' if kind is list else 'an object'}")
    return value


def _bounded(value: object, where: str, depth: int = 0) -> object:
    if depth > _DEPTH:
        raise SchemaError(f"{where} is nested deeper than {_DEPTH} levels")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _bounded(child, where, depth + 1)
    return value


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _said(value: object) -> str:
    """The value as JSON, cut short."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
