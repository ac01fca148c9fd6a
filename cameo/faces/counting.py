"""What is to be said of how many faces there are: more than can be right, or the most that are looked for."""

from __future__ import annotations

from typing import Final

from cameo.faces.face import Finder

ABSURD: Final = 100
"""More are in few photos; a network of another checkpoint finds hundreds in any (docs/decisions/200)."""


def counted(found: int, finder: Finder) -> str:
    """A sentence about so many faces, or "" where there is nothing to say."""
    if found > ABSURD:
        return (
            f"{finder.title} found {found} faces: if the photo shows no such crowd, its network has the weights of "
            "another checkpoint, so build the bundle again with the right ones."
        )
    if found >= finder.most:
        return f"{found} faces were found, as many as {finder.title} may find: there may be more."
    return ""
