"""Cameo's runtime: bundle → session → photo in, photo out.

import cameo
with cameo.load("build/dctnet") as cartoonize:
    cartoon = cartoonize("photo.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cameo.errors import CameoError

if TYPE_CHECKING:
    from cameo.loading import Loaded, load
    from cameo.provenance.saving import save

__version__ = "0.1.0"
__all__ = ["CameoError", "Loaded", "__version__", "load", "save"]


def __getattr__(name: str) -> Any:
    # numpy and OpenCV load only when a bundle does: `import cameo` stays instant.
    if name in ("load", "Loaded"):
        from cameo import loading

        return getattr(loading, name)
    if name == "save":
        from cameo.provenance import saving

        return saving.save
    raise AttributeError(f"module 'cameo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
