"""Options that a flow declares once, for every door: the library, the command line's flags, the fields of a request.

    @dataclass(frozen=True)
    class Options(Declared):
        size: int | None = option(720, "short side in pixels at which the networks work", least=16, none="full")

A value is checked when the dataclass is made, by whatever door it came; doors that have text hand it to `from_text`.
Why pydantic does not do it: docs/decisions/134.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
from PIL import Image

from cameo.errors import RequestError
from cameo.images import Picture

_KINDS = {int: "a whole number", float: "a number", bool: "yes or no", str: "text"}
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
PHOTO = object()
"""The kind of an option that is a picture."""


def option(
    default: Any, help: str, *, least: float | None = None, most: float | None = None, none: str = "", step: int = 1
) -> Any:
    """A field with its default, a few words, its bounds, what it is a multiple of, and the word for None."""
    told = {"help": help, "least": least, "most": most, "none": none, "step": step}
    return field(default=default, metadata=told)


@dataclass(frozen=True)
class Declaration:
    """One declared option, as a door needs it."""

    name: str
    kind: Any
    default: Any
    help: str
    least: float | None
    most: float | None
    none: str
    step: int

    @property
    def flag(self) -> str:
        """Its name on a command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return self.kind is bool

    @property
    def expected(self) -> str:
        """What its values are, in words."""
        if self.kind is PHOTO:
            return "a picture"
        words = _KINDS[self.kind]
        if self.step != 1:
            words = f"a multiple of {self.step}"
        if self.least is not None and self.most is not None:
            words += f" from {self.least:g} to {self.most:g}"
        elif self.least is not None:
            words += f" of at least {self.least:g}"
        return words + (f", or {self.none}" if self.none else "")

    def from_text(self, text: str) -> Any:
        """The value that `text` stands for; what cannot be read is left to the check, as text."""
        if self.none and text == self.none:
            return None
        if self.kind is PHOTO:
            return Path(text)
        if self.kind is bool:
            return True if text.lower() in _YES else False if text.lower() in _NO else text
        try:
            return self.kind(text)
        except ValueError:
            return text

    def accepts(self, value: Any) -> bool:
        """Whether a value is of the kind and within the bounds."""
        if value is None:
            return bool(self.none) or self.default is None
        if self.kind is PHOTO:
            return isinstance(value, str | Path | bytes | np.ndarray | Image.Image | Picture)
        if isinstance(value, bool) != (self.kind is bool):
            return False
        if self.kind in (bool, str):
            return isinstance(value, self.kind)
        numbers = int | float if self.kind is float else int
        return isinstance(value, numbers) and self._within(value)

    def _within(self, value: float) -> bool:
        low, high = self.least is None or value >= self.least, self.most is None or value <= self.most
        return low and high and (self.step == 1 or value % self.step == 0)


@dataclass(frozen=True)
class Declared:
    """Base of dataclasses whose fields are options; `OF` names what they are options of in errors."""

    OF: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for declared in declarations(type(self)):
            value = getattr(self, declared.name)
            if not declared.accepts(value):
                raise RequestError(f"Option {declared.name} of {self.OF} is {value!r}, expected {declared.expected}.")

    def changed(self, given: Mapping[str, Any]) -> Self:
        """The same with other values for the options given by name.

        Raises:
            RequestError: one is unknown, of another kind or out of bounds.
        """
        known = [declared.name for declared in declarations(type(self))]
        unknown = sorted(set(given) - set(known))
        if unknown:
            offers = f"expected one of {', '.join(sorted(known))}" if known else "a call has none"
            raise RequestError(f"{self.OF} has no option {', '.join(unknown)} for a call, {offers}.")
        return replace(self, **given)


def declarations(cls: type[Declared]) -> tuple[Declaration, ...]:
    """Every option that a dataclass declares, in order."""
    hints = get_type_hints(cls)
    return tuple(_declaration(one, hints[one.name]) for one in fields(cls))


def _declaration(one: Field[Any], hint: Any) -> Declaration:
    told = {"help": "", "least": None, "most": None, "none": "", "step": 1, **one.metadata}
    default = None if one.default is MISSING else one.default
    return Declaration(one.name, _kind(hint), default, **told)


def _kind(hint: Any) -> Any:
    """The kind behind a type hint: `int | None` is int, every union with a path or an array is a photo."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    members = [member for member in get_args(hint) if member is not NoneType]
    return members[0] if len(members) == 1 and members[0] in _KINDS else PHOTO
