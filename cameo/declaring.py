"""Options that a flow declares once, for every door: the library, the command line's flags, the fields of a request.

    @dataclass(frozen=True)
    class Options(Declared):
        size: int | None = option(720, "short side in pixels at which the networks work", least=16, none="full")

A value is checked when the dataclass is made, by whatever door it came; doors that have text hand it to `from_text`.
Sentences name an option in backticks, as `named` does: so a door finds it, and says it in its own words (`flagged`).
Why pydantic does not do it: docs/decisions/134.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from cameo.errors import RequestError
from cameo.images import is_photo

_KINDS = {int: "a whole number", float: "a number", bool: "yes or no", str: "text"}
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
PHOTO = object()
"""The kind of an option that is a picture."""


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    none: str = "",
    step: int = 1,
    choices: tuple[str, ...] = (),
    needs: str = "",
) -> Any:
    """A field with its default, a few words, its bounds, what it is a multiple of, the word for None, or all values.

    It `needs` a network whose name begins so: doors offer it for bundles that have one (`offered`). What has one value
    alone is taken, and not offered.
    """
    told = {"help": help, "least": least, "most": most, "none": none, "step": step, "choices": choices, "needs": needs}
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
    choices: tuple[str, ...]
    needs: str

    @property
    def flag(self) -> str:
        """Its name on a command line."""
        return flag_of(self.name)

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return self.kind is bool

    @property
    def expected(self) -> str:
        """What its values are, in words."""
        if self.kind is PHOTO:
            return "a picture"
        words = " or ".join(filter(None, self.choices)) or _KINDS[self.kind]
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
            return True if text.lower() in YES else False if text.lower() in NO else text
        try:
            return self.kind(text)
        except ValueError:
            return text

    def accepts(self, value: Any) -> bool:
        """Whether a value is of the kind and within the bounds."""
        if value is None:
            return bool(self.none) or self.default is None
        if self.kind is PHOTO:
            return is_photo(value)
        if isinstance(value, bool) != (self.kind is bool):
            return False
        if self.kind in (bool, str):
            return isinstance(value, self.kind) and (not self.choices or value in map(self.from_text, self.choices))
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
                what = f"Option {named(declared.name)} of {self.OF}"
                raise RequestError(f"{what} is {value!r}, expected {declared.expected}.")

    @property
    def pictures(self) -> dict[str, Any]:
        """The options that are pictures and were given, by name."""
        names = (declared.name for declared in declarations(type(self)) if declared.kind is PHOTO)
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def changed(self, given: Mapping[str, Any], networks: Collection[str]) -> Self:
        """The same with other values for the options given by name; errors offer those of a bundle of `networks`.

        Raises:
            RequestError: one is unknown, of another kind or out of bounds.
        """
        unknown = sorted(given.keys() - {declared.name for declared in declarations(type(self))})
        if unknown:
            can = sorted(declared.name for declared in offered(type(self), networks))
            offers = f"expected one of {named(*can)}" if can else "a call has none"
            raise RequestError(f"{self.OF} has no option {named(*unknown)} for a call, {offers}.")
        return replace(self, **given)


def named(*names: str) -> str:
    """Options as sentences name them: `` `size`, `tile` ``."""
    return ", ".join(f"`{name}`" for name in names)


def flagged(said: str, known: Collection[str]) -> str:
    """`said` with a flag for each option that it names and that is `known`: `` `max_faces` `` is --max-faces."""
    return re.sub(r"`(\w+)`", lambda found: flag_of(found[1]) if found[1] in known else found[0], said)


def flag_of(name: str) -> str:
    """The name of an option on a command line."""
    return "--" + name.replace("_", "-")


def declarations(cls: type[Declared]) -> tuple[Declaration, ...]:
    """Every option that a dataclass declares, in order."""
    hints = get_type_hints(cls)
    return tuple(_declaration(one, hints[one.name]) for one in fields(cls))


def offered(cls: type[Declared], networks: Collection[str]) -> tuple[Declaration, ...]:
    """Those of the options by which a bundle of these networks can do one thing or another."""
    found = (one for one in declarations(cls) if len(one.choices) != 1)
    return tuple(one for one in found if not one.needs or any(name.startswith(one.needs) for name in networks))


def from_texts(known: Iterable[Declaration], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values that texts stand for, by the names of options; what is unknown stays text, and is refused by name."""
    named = {declared.name: declared for declared in known}
    return {name: named[name].from_text(text) if name in named else text for name, text in texts.items()}


def _declaration(one: Field[Any], hint: Any) -> Declaration:
    told = {"help": "", "least": None, "most": None, "none": "", "step": 1, "choices": (), "needs": "", **one.metadata}
    default = None if one.default is MISSING else one.default
    return Declaration(one.name, _kind(hint), default, **told)


def _kind(hint: Any) -> Any:
    """The kind behind a type hint: `int | None` is int, every union with a path or an array is a photo."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    members = [member for member in get_args(hint) if member is not NoneType]
    return members[0] if len(members) == 1 and members[0] in _KINDS else PHOTO
