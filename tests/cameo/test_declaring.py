"""Options with a fixed set of values, at every door."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from cameo.declaring import Declared, declarations, option
from cameo.errors import RequestError
from cameo.server.offers import Offer
from cameo.server.page import page
from cameo.size_rule import size_rule_option
from cameo.workers.calls import Served


@dataclass(frozen=True)
class Toy(Declared):
    OF: ClassVar[str] = "toy"

    how: str = option("fast", "how it is done", choices=("fast", "well"))
    name: str = option("", "any text")


@dataclass(frozen=True)
class Sized(Declared):
    OF: ClassVar[str] = "sized"

    size_rule: str = size_rule_option()


def test_a_choice_is_one_of_its_values() -> None:
    how, name = declarations(Toy)
    assert (Toy().how, Toy("well").how) == ("fast", "well")
    assert (how.expected, name.expected) == ("fast or well", "text")
    assert how.from_text("well") == "well"


@pytest.mark.parametrize("value", ["slow", "", 1, True, None])
def test_another_value_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(RequestError, match=f"Option `how` of toy is {value!r}, expected fast or well."):
        Toy().changed({"how": value}, ())


def toy_offer(takes: str, usual: Declared) -> Offer:
    """A model that takes one photo, and needs no network for any of its options."""
    return Offer(
        Served("toy", Path()),
        "toy",
        (takes,),
        {takes: "whom it shows"},
        declarations(type(usual)),
        usual,
        "",
        ("quality",),
        lambda request: None,
    )


def test_the_page_offers_all_values_the_usual_one_first() -> None:
    offer = toy_offer("photo", Toy())
    html = " ".join(page([offer]).split())
    assert '<select name="how"> <option value="">fast</option> <option>well</option> </select>' in html
    assert '<input name="name" placeholder="">' in html


def test_the_page_calls_options_by_words() -> None:
    offer = toy_offer("old_photo", Sized())
    html = " ".join(page([offer]).split())
    assert '<label>old photo <input type="file" name="old_photo"' in html
    assert "<small>whom it shows</small>" in html
    assert '<label>size rule <select name="size_rule">' in html


def test_the_command_names_all_values(capsys: pytest.CaptureFixture[str]) -> None:
    from cameo.commands import main

    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "--size-rule original|long-1024|short-1024" in " ".join(capsys.readouterr().out.split())
