"""The one shape that exporters, passes and engine builders share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable


@runtime_checkable
class Stage(Protocol):
    """A frozen dataclass whose fields are its configuration, its log line and its cache key.

    name     what logs and folders call it ("export-dctnet", "simplify-graph", "build-openvino")
    output   file name of its result inside its own folder ("model.onnx"; a folder for engines of several files)
    tools    distributions whose versions are part of the cache key ("onnx", "tf2onnx")

    A stage may also say, and its key then sees

    rests_on   modules that it finds by file name, which no import shows ("cameo.backends.openvino")
    measures   True where its result depends on the machine

    and may have a method

    check()    raises CameoError where its fields cannot work; a build asks all of its stages before the first one runs
    """

    name: ClassVar[str]
    output: ClassVar[str]

    @property
    def tools(self) -> tuple[str, ...]:
        """A class variable will do."""
        ...

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write `out` from `source` and return what is worth recording (JSON values: node counts, planned bytes)."""
        ...


def check_fields(stage: Stage) -> None:
    """Raises CameoError if `stage` says that its fields cannot work."""
    if hasattr(stage, "check"):
        stage.check()
