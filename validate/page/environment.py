"""The templates of the page, with the functions of `words` as their filters."""

from __future__ import annotations

import inspect
import json
import math
from functools import cache, partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from validate.page import words
from validate.pictures import scale_bar
from validate.stages import TOLERANCE


@cache
def environment() -> Environment:
    """Where the templates are found; whatever they print is escaped, and a name that nothing stands for is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(inspect.getmembers(words, inspect.isfunction))
    made.filters["json"] = partial(json.dumps, indent=2, ensure_ascii=False)
    made.tests.update(nan=math.isnan, infinite=math.isinf)
    made.globals["scale_bar"] = scale_bar
    made.globals["stage_tolerance"] = lambda: TOLERANCE
    return made
