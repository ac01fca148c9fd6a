"""Decisions are found from both sides: in their index by theme, and from the code that each explains."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/decisions"
INDEX = (FOLDER / "README.md").read_text()
TITLES = {path.name: path.read_text().splitlines()[0].removeprefix("# ") for path in FOLDER.glob("[0-9]*.md")}
NUMBERS = {name[:3] for name in TITLES}
NOT_CODE = ("docs", "build", "weights", "shared")
CODE = (".py", ".html", ".jinja", ".toml", "Makefile")


def pointers() -> dict[str, set[str]]:
    """The numbers of the decisions that each file of code points to."""
    files = [path for path in ROOT.rglob("*") if path.name.endswith(CODE) and path.is_file()]
    own = [path for path in files if not path.relative_to(ROOT).parts[0].startswith((".", *NOT_CODE))]
    return {
        str(path.relative_to(ROOT)): set(re.findall(r"docs/decisions/(\d+)", path.read_text()))
        for path in own
        if path != Path(__file__)
    }


def test_a_decision_is_called_by_its_number() -> None:
    assert len(NUMBERS) == len(TITLES), "two decisions have one number"
    assert all(title.startswith(f"{name[:3]} ") for name, title in TITLES.items())


def test_the_index_lists_every_decision_once_by_its_title() -> None:
    listed = re.findall(r"^\* \[([^\]]+)\]\(([^)]+)\): \S", INDEX, re.MULTILINE)
    assert sorted((file, title) for title, file in listed) == sorted(TITLES.items())


def test_every_decision_is_pointed_to_from_the_code_that_it_explains() -> None:
    pointed = {number for file, numbers in pointers().items() if not file.startswith("tests/") for number in numbers}
    assert sorted(NUMBERS - pointed) == []


def test_every_pointer_leads_to_a_decision() -> None:
    lost = {f"{file}: {number}" for file, numbers in pointers().items() for number in numbers - NUMBERS}
    assert not lost


def test_decisions_refer_to_decisions_that_exist() -> None:
    texts = {name: (FOLDER / name).read_text() for name in TITLES}
    referred = {(name, number) for name, text in texts.items() for number in re.findall(r"\(([01]\d\d)\)", text)}
    assert not {(name, number) for name, number in referred if number not in NUMBERS}


def test_decisions_name_files_that_exist() -> None:
    wrong = {
        f"{name}: {path}"
        for name in TITLES
        for path in re.findall(r"`((?:[a-z_]+/)+[\w.]+)`", (FOLDER / name).read_text())
        if path.split("/")[0] in {folder.name for folder in ROOT.iterdir()} and not (ROOT / path).exists()
    }
    assert not wrong
