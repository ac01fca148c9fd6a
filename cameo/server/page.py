"""The page to try a server with: a field for every photo that the model takes, and for every option of a call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import jinja2

from cameo.options import PHOTO, Declaration


def page(model: str, takes: Sequence[str], per_call: Sequence[Declaration]) -> str:
    """The page as HTML; it asks /run of the server that it came from."""
    options = [one for one in per_call if one.kind is not PHOTO]
    pictures = [one for one in per_call if one.kind is PHOTO]
    return _template().render(model=model, takes=takes, options=options, pictures=pictures)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cameo.server", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")
