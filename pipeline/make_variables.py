"""Errors in the language of the door that was used: make's variables, where make was asked, and not flags."""

from __future__ import annotations

import os
import re

VARIABLES = "CAMEO_VARIABLES"
"""What the Makefile sets for its recipes: the variables that it passes on as flags ("WEIGHTS= FAST=1")."""


def in_the_words_of_the_door(message: str) -> str:
    """`message` with the flags that make passes on as its variables: `--prune=0.3` is PRUNE=0.3, `--fast` FAST=1."""
    variables = {"--" + name.partition("=")[0].lower().replace("_", "-"): name for name in _variables()}

    def said(flag: re.Match[str]) -> str:
        variable = variables.get(flag[1], flag[0])
        return variable.partition("=")[0] + "=" if flag[2] and flag[1] in variables else variable

    return re.sub(r"(--[a-z]+(?:-[a-z]+)*)(=?)", said, message)


def _variables() -> list[str]:
    return os.environ.get(VARIABLES, "").split()
