"""What the TensorRT and TensorRT-RTX builders share: from ONNX to a strongly typed engine with its memory plan.

Both libraries have the same Python interface, so the functions here take the imported module (`trt`). Precision is in
the graph; TF32, which would round the products of an FP32 graph to 10 bits, is switched off. One stream: auxiliary
streams only reserve memory in networks that are one chain (DCT-Net at 1024²: 8 MiB; docs/decisions/021).

Where the planned bytes come from. The builder says at level INFO, for every optimization profile in turn, "Total
Activation Memory: N bytes", and once "Total Weights Memory: N bytes". A build for several GPUs says so once, not once
per GPU; so each target is planned by a build of its own (a second or less, thrown away), whose N-th figure is the N-th
profile's, and the engine that is kept is built for all targets together (docs/decisions/020).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from cameo.any_locale import as_utf8
from cameo.errors import EngineError, RequestError
from engines import InputRange

log = logging.getLogger(__name__)

_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")


class Builder:
    """Builds engines of one ONNX graph with one of the two libraries."""

    def __init__(self, trt: ModuleType, engine: str, source: Path, ranges: Sequence[InputRange]) -> None:
        self._trt, self._engine, self._source, self._ranges = trt, engine, source, ranges

    def planned(self, target: str, on_this_gpu: bool = False) -> list[dict[str, Any]]:
        """The fields of `cameo.bundle.Profile` of every range: what the builder plans for `target` ("sm_86").

        Raises:
            EngineError: the library cannot build the graph, or its log no longer says what it plans.
        """
        _, log = self.build(() if on_this_gpu else (target,))
        activations = [int(n) for line in log for n in _ACTIVATIONS.findall(line)]
        weights = [int(n) for line in log for n in _WEIGHTS.findall(line)]
        if len(activations) != max(len(self._ranges), 1) or len(weights) != 1:
            raise EngineError(
                f"{self._engine} {self._trt.__version__} did not report its memory plan: expected "
                f"{len(self._ranges)} activation figures and one of weights, got {len(activations)} and "
                f"{len(weights)}; use the version that CHANGELOG.md lists as tested"
            )
        return [
            {**asdict(range_), "target": target, "weight_bytes": weights[0], "activation_bytes": planned}
            for range_, planned in zip(self._ranges, activations, strict=False)
        ]

    def build(self, targets: Sequence[str]) -> tuple[bytes, list[str]]:
        """The serialized engine for `targets` (none: the GPU of this machine), and the builder's log.

        Raises:
            EngineError: the library cannot parse or build the graph.
            RequestError: it does not know a target.
        """
        trt = self._trt
        logger = _logger(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(as_utf8(self._source)):
            raise EngineError(self._why_not_parsed(parser))
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        config.max_aux_streams = 0
        if targets:
            config.num_compute_capabilities = len(targets)
            for index, target in enumerate(targets):
                config.set_compute_capability(capability(trt, self._engine, target), index)
        for profile in self._profiles(builder, network):
            config.add_optimization_profile(profile)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            reason = (logger.errors or ["it gave no reason"])[-1]
            raise EngineError(
                f"{self._engine} cannot build {self._source.name} for {', '.join(targets) or 'this GPU'}: {reason}; "
                "change the graph or its input ranges, or leave this engine out"
            )
        return bytes(engine), logger.lines

    def _why_not_parsed(self, parser: Any) -> str:
        error = parser.get_error(0)
        node = f"node '{error.node_name()}' ({error.node_operator()})" if error.node_name() else "the file"
        return (
            f"{self._engine} cannot read {self._source.name}: {node}: {_one_line(error.desc())}; "
            "add a pass that rewrites it, or leave this engine out for this network"
        )

    def _profiles(self, builder: Any, network: Any) -> list[Any]:
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
        if dynamic and not self._ranges:
            raise EngineError(
                f"{self._engine} needs input ranges for {self._source.name}, whose input '{dynamic[0].name}' is "
                "dynamic: give its recipe at least one InputRange"
            )
        names = next((_axes(tensor) for tensor in inputs if tensor.name == "image"), ())
        profiles = []
        for range_ in self._ranges:
            profile = builder.create_optimization_profile()
            for tensor in inputs:
                shapes = [self._shape(tensor, wanted, names) for wanted in (range_.min, range_.opt, range_.max)]
                profile.set_shape(tensor.name, *shapes)
            profiles.append(profile)
        return profiles

    def _shape(self, tensor: Any, image: Sequence[int], names: Sequence[str]) -> tuple[int, ...]:
        """The shape of one input for a given shape of `image`: the others share its batch, and axes of its `names`."""
        shape = tuple(tensor.shape)
        named = {name: size for name, size in zip(names, image, strict=False) if name}
        own = [named.get(name, axis) if axis == -1 else axis for name, axis in zip(_axes(tensor), shape, strict=True)]
        wanted = tuple(image) if tensor.name == "image" else (image[0], *own[1:])
        fits = len(wanted) == len(shape) and -1 not in wanted
        if not fits or any(axis not in (-1, size) for axis, size in zip(shape, wanted, strict=True)):
            raise EngineError(
                f"{self._engine}: the input range {tuple(image)} does not fit the input '{tensor.name}' {shape} of "
                f"{self._source.name}: correct the ranges of its recipe"
            )
        return wanted


def capability(trt: ModuleType, engine: str, target: str) -> Any:
    """The package's own name of a target ("sm_86").

    Raises:
        RequestError: it has none.
    """
    capabilities = trt.ComputeCapability
    known = [name for name in capabilities.__members__ if re.fullmatch(r"SM\d+", name)]
    name = target.replace("_", "").upper()
    if name not in known:
        offers = ", ".join(f"sm_{name[2:]}" for name in known)
        raise RequestError(f"{engine} cannot build for '{target}': choose from {offers}")
    return capabilities.__members__[name]


def _axes(tensor: Any) -> tuple[str, ...]:
    """The names that the graph gives the axes of an input ("N", "H", "W"), "" where it gives none."""
    return tuple(tensor.get_dimension_name(axis) or "" for axis in range(len(tensor.shape)))


def _strongly_typed(trt: ModuleType) -> int:
    # TensorRT 11 knows no other kind of network and may drop the flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _logger(trt: ModuleType) -> Any:
    """A logger that keeps and passes on what the builder says, and keeps its errors apart."""

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.name == "VERBOSE":
                return
            log.info("%s: %s", severity.name, message)
            self.lines.append(message)
            if "ERROR" in severity.name:
                self.errors.append(_one_line(message))

    return Logger()
