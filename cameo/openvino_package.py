"""Imports OpenVINO without its telling its vendor, which it does at every import otherwise (docs/decisions/211)."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any, Final

_REPORTER: Final = "openvino_telemetry"
_importing = threading.Lock()


def openvino_package() -> Any:
    """The package openvino, imported as if the one that reports to its vendor were not installed.

    Otherwise importing it sends an event to Google Analytics, and leaves a number for this user in the home folder.
    """
    with _importing:
        if "openvino" not in sys.modules:
            hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == _REPORTER}
            no_such_modules: Any = dict.fromkeys((_REPORTER, *hidden))
            sys.modules.update(no_such_modules)
            try:
                importlib.import_module("openvino")
            finally:
                del sys.modules[_REPORTER]
                sys.modules.update(hidden)
    return sys.modules["openvino"]
