"""The page to try a server with: for each model a field for every photo that it takes, and every option of a call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import jinja2

from cameo.declaring import PHOTO
from cameo.server.offers import Offer


def page(offers: Sequence[Offer], has_keys: bool = False) -> str:
    """The page as HTML; it asks the server that it came from.

    The sentence of a model that needs consent is agreed to once in each browser. With `has_keys` there is a field for
    an API key.
    """
    return _template().render(offers=offers, has_keys=has_keys, photo=PHOTO)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cameo.server", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")
