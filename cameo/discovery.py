"""What a folder offers is found by file name: no registry to edit, no list of names to forget (docs/decisions/133)."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names_in(package: ModuleType) -> list[str]:
    """The names that a package's modules and subpackages go by ("tensorrt-rtx" for `tensorrt_rtx.py`), sorted.

    Those that begin with an underscore are its own.
    """
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def module_path(package: str, name: str) -> str:
    """Where the module called `name` lies in a package ("cameo.backends.tensorrt_rtx")."""
    return f"{package}.{name.replace('-', '_')}"


def module_in(package: ModuleType, name: str) -> ModuleType | None:
    """The module that goes by `name`, or None where the package has none of that name."""
    if name not in names_in(package):
        return None
    return importlib.import_module(module_path(package.__name__, name))
