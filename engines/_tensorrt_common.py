"""What TensorRT and TensorRT-RTX share: parsing, optimization profiles, planned memory from the builder's log.

Networks are strongly typed: precision is what the ONNX graph says, and no builder flag chooses it (TensorRT 11 has no
such flags any more). The builder logs "Total Activation Memory: B bytes" once per optimization profile, in the order of
the profiles, and "Total Weights Memory: B bytes" once. For several targets it logs the largest, so each target's own
figures come from a build for it alone.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cameo.errors import EngineError
from engines import InputRange

log = logging.getLogger(__name__)

_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")


@dataclass
class BuilderLog:
    """What the builder said: planned bytes, and its errors."""

    activation_bytes: list[int] = field(default_factory=list)
    weight_bytes: int = 0
    errors: list[str] = field(default_factory=list)

    def take(self, message: str, is_error: bool) -> None:
        """Keep what matters of one message."""
        if found := _ACTIVATIONS.search(message):
            self.activation_bytes.append(int(found[1]))
        if found := _WEIGHTS.search(message):
            self.weight_bytes = int(found[1])
        if is_error:
            self.errors.append(message)


class Targeting(Protocol):
    """How an engine kind tells the builder's configuration what GPUs to build for."""

    def __call__(self, trt: Any, config: Any, targets: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build: `module` is "tensorrt" or "tensorrt_rtx"."""

    module: str
    source: Path
    ranges: Sequence[InputRange]
    targeting: Targeting

    def build(self, targets: Sequence[str]) -> tuple[bytes, BuilderLog]:
        """The serialized engine for `targets`, and what its builder planned.

        Raises:
            EngineError: the graph cannot be parsed or built.
        """
        trt = importlib.import_module(self.module)
        said = BuilderLog()
        builder = trt.Builder(_logger(trt, said))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parse(trt, network, said)
        config = builder.create_builder_config()
        config.max_aux_streams = 0  # parallel branches would each need their own memory
        for input_range in self.ranges:
            config.add_optimization_profile(_profile(builder, network, input_range))
        self.targeting(trt, config, targets)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise EngineError(f"{self.module} cannot build {self.source.name}: {_last(said.errors)}")
        return bytes(engine), said

    def _parse(self, trt: Any, network: Any, said: BuilderLog) -> None:
        parser = trt.OnnxParser(network, _logger(trt, said))
        if not parser.parse_from_file(str(self.source)):
            error = parser.get_error(0)
            raise EngineError(
                f"{self.module} cannot take the node '{error.node_name()}' ({error.node_operator()}) of "
                f"{self.source.name}: {_one_line(error.desc())}; leave this engine out for this network"
            )

    def profiles(self, target: str) -> list[dict[str, Any]]:
        """The fields of `cameo.bundle.Profile` for each range, with the memory planned for `target`."""
        _, said = self.build([target] if target else [])
        if len(said.activation_bytes) != len(self.ranges):
            raise EngineError(
                f"{self.module} logged {len(said.activation_bytes)} activation sizes for {len(self.ranges)} profiles: "
                "its log format is unknown to this version of Cameo"
            )
        return [
            {
                "name": input_range.name,
                "min": list(input_range.min),
                "opt": list(input_range.opt),
                "max": list(input_range.max),
                "target": target,
                "weight_bytes": said.weight_bytes,
                "activation_bytes": planned,
            }
            for input_range, planned in zip(self.ranges, said.activation_bytes, strict=True)
        ]

    def write(self, out: Path, targets: Sequence[str]) -> Mapping[str, Any]:
        """Build for all `targets` at once, write the engine, and return the facts for the bundle."""
        engine, said = self.build(targets)
        out.write_bytes(engine)
        log.info("%s: %d bytes, planned %s", self.module, len(engine), said.activation_bytes)
        profiles = [profile for target in targets or [""] for profile in self.profiles(target)]
        return {"targets": list(targets), "profiles": profiles}


def _profile(builder: Any, network: Any, input_range: InputRange) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            profile.set_shape(tensor.name, input_range.min, input_range.opt, input_range.max)
    return profile


def _logger(trt: Any, said: BuilderLog) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            said.take(message, severity <= trt.ILogger.ERROR)
            if severity <= trt.ILogger.INFO:
                log.info("%s", message)

    return Logger()


def _last(errors: Sequence[str]) -> str:
    return _one_line(errors[-1]) if errors else "the builder gave no reason"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
