"""Consent that was given on the command line is remembered, for each flow and sentence (docs/decisions/154).

In consent.json of the user's folder for settings: `XDG_CONFIG_HOME/cameo`, or `~/.config/cameo`; on Windows
`APPDATA/cameo`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cameo.errors import RequestError
from cameo.flows import FlowModule, consent_of, no_consent


def is_given(module: FlowModule, now: bool) -> bool:
    """Whether those who are shown are said to agree: `now`, or before to the same sentence.

    Raises:
        RequestError: the flow needs it, and it was not said.
    """
    why = consent_of(module)
    if why and not now and _given().get(module.Options.OF) != why:
        raise RequestError(no_consent(why, "--consent"))
    return bool(why)


def remember(module: FlowModule) -> str:
    """Remember that it was given; returns a sentence where that cannot be, else ""."""
    given = _given()
    if given.get(module.Options.OF) == consent_of(module):
        return ""
    try:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**given, module.Options.OF: consent_of(module)}, indent=2) + "\n")
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home folder
        return f"--consent is not remembered, the next run needs it again ({error})"
    return ""


def _path() -> Path:
    home = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME", "")
    return (Path(home) if home else Path.home() / ".config") / "cameo" / "consent.json"


def _given() -> dict[str, str]:
    """The sentences that were agreed to, by flow; none where the file is not there or is damaged: then one is asked."""
    try:
        given = json.loads(_path().read_text())
    except (OSError, RuntimeError, ValueError):
        return {}
    return given if isinstance(given, dict) else {}
