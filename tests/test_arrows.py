"""Arrows between folders point one way: every import of every file, also those for types alone, against one table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TIERS = (
    ("cameo",),
    ("metrics", "engines"),
    ("compress",),
    ("optimize", "exporters"),
    ("validate",),
    ("pipeline",),
    ("bench", "demo"),
)
ALLOWED = {
    folder: {folder, *(lower for tier in TIERS[:height] for lower in tier)}
    for height, tier in enumerate(TIERS)
    for folder in tier
}


def imported(source: str) -> Iterator[str]:
    """Every module that the source imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in (module.partition(".")[0] for module in imported(path.read_text()))
        if name in ALLOWED and name not in ALLOWED[folder]
    }
    assert not wrong


@pytest.mark.parametrize("folder", ALLOWED)
def test_what_is_imported_is_there(folder: str) -> None:
    """Also by functions that no test calls, and after files were renamed."""
    missing = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / folder).rglob("*.py")
        for module in imported(path.read_text())
        if module.partition(".")[0] in ALLOWED
        and not (ROOT / module.replace(".", "/")).is_dir()
        and not (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
    }
    assert not missing


def test_the_table_names_every_folder_with_code() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert folders <= set(ALLOWED)


def test_an_import_for_types_or_inside_a_function_counts() -> None:
    source = "if TYPE_CHECKING:\n    from pipeline.store import Store\ndef f():\n    import validate.flow\n"
    assert set(imported(source)) == {"pipeline.store", "validate.flow"}
