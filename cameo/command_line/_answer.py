"""Answers: what `info`, `plan` and `doctor` print, as text or, for programs, as JSON."""

from __future__ import annotations

import argparse
import json
from typing import Any, Protocol


class Answer(Protocol):
    """Prints as text (`str`), or as `facts`, made of what JSON is made of."""

    @property
    def facts(self) -> dict[str, Any]: ...


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the flag that asks for JSON."""
    parser.add_argument("--json", action="store_true", help="for programs: the same as JSON")


def show(answer: Answer, parsed: argparse.Namespace) -> None:
    """Print it as it was asked for."""
    print(json.dumps(answer.facts, indent=2) if parsed.json else answer)
