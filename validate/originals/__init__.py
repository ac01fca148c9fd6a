"""The networks as their authors run them: what engines are compared with.

One file per family, found by what the network's name starts with (`dctnet-head` is in `dctnet.py`). Each module offers

    open_original(network, weights, part="") -> Session     the original, behind the edges that its engines have
    LIBRARIES: tuple[str, ...]                     the distributions that run it, whose versions the report names

It is opened in a child process of its own (`validate.worker`), so it may load what it likes.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from cameo.errors import CheckpointError
from cameo.session import Session


def family(network: str) -> ModuleType:
    """The module that runs the original of `network`.

    Raises:
        CheckpointError: no family has it.
    """
    name = network.partition("-")[0]
    known = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    if name not in known:
        raise CheckpointError(f"there is no original to compare '{network}' with: families are {', '.join(known)}")
    return importlib.import_module(f"{__name__}.{name}")


def open_original(network: str, weights: Path, part: str = "") -> Session:
    """The original of `network`, loaded from the file that its authors publish, or from a part of it.

    Raises:
        CheckpointError: no such network, or `weights` is not its checkpoint.
    """
    session: Session = family(network).open_original(network, weights, *filter(None, [part]))
    return session
