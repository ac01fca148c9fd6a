"""What the TensorRT and TensorRT-RTX backends share: a deserialised engine, run on one stream. Not yet run on a GPU.

The two libraries have the same Python interface, so the session takes the imported module (`trt`). Activation memory is
the caller's (`USER_MANAGED`): sessions of one process take turns with one buffer, sized for the shapes at hand, which
is never more than what the builder planned for the profile (docs/decisions/023).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from cameo.backends._cuda import ACTIVATIONS, Cuda, DeviceBuffer
from cameo.backends._turns import TakingTurns
from cameo.cuda_driver import not_installed, why_no_gpu
from cameo.errors import EngineError
from cameo.session import Tensor
from cameo.tensors import TensorSpec, within


def why_unavailable(module: str, package: str) -> str | None:
    """None, or what is missing: the library's package, cuda-bindings, the driver or the GPU."""
    if importlib.util.find_spec(module) is None:
        return not_installed(package)
    try:
        importlib.util.find_spec("cuda.bindings.runtime")
    except ModuleNotFoundError:
        return "the package cuda-bindings is not installed (pip install cuda-bindings)"
    return why_no_gpu()


class _Profile(NamedTuple):
    """One optimization profile: smallest and largest shape of each input."""

    number: int
    smallest: Mapping[str, tuple[int, ...]]
    largest: Mapping[str, tuple[int, ...]]

    def contains(self, arrays: Mapping[str, Tensor]) -> bool:
        return all(within(self.smallest[name], array.shape, self.largest[name]) for name, array in arrays.items())

    @property
    def batch(self) -> int:
        """The largest batch of all inputs."""
        return min(shape[0] for shape in self.largest.values())

    @property
    def volume(self) -> int:
        return sum(prod(shape) for shape in self.largest.values())


class TensorRtSession(TakingTurns):
    """One engine with one execution context on one stream."""

    def __init__(self, trt: ModuleType, cuda: Cuda, engine_name: str, path: Path) -> None:
        super().__init__(engine_name)
        self._cuda = cuda
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{engine_name} cannot load {path}: it was built for other GPUs or by another version; "
                "build it for this GPU (--gpu) with the installed version"
            )
        self._context: Any = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        edges = [_spec(trt, self._engine, index) for index in range(self._engine.num_io_tensors)]
        inputs = [s for s in edges if self._engine.get_tensor_mode(s.name) == trt.TensorIOMode.INPUT]
        self.outputs = [spec for spec in edges if spec not in inputs]
        # An engine built for one picture has a batch axis of 1; larger batches are cut up.
        self.inputs = [replace(spec, shape=("?", *spec.shape[1:])) for spec in inputs]
        self._profiles = _profiles(self._engine, self.inputs)
        self.batches = sorted({profile.batch for profile in self._profiles})
        self._profile = 0
        self._buffers = {spec.name: DeviceBuffer(cuda) for spec in edges}
        self._stream = cuda.new_stream()
        ACTIVATIONS.join(cuda)

    def _run(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs; a batch larger than the engine was built for runs in parts."""
        first, *others = [self._run_part(part) for part in self._parts(arrays)]
        if not others:
            return first
        return {name: np.concatenate([array, *(part[name] for part in others)]) for name, array in first.items()}

    def _parts(self, arrays: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The batch as it is where a profile takes it, or where none would take a part of it; else cut up."""
        alone = {name: array[:1] for name, array in arrays.items()}
        batches = [profile.batch for profile in self._profiles if profile.contains(alone)]
        if not batches or any(profile.contains(arrays) for profile in self._profiles):
            return [arrays]
        most, batch = max(batches), len(next(iter(arrays.values())))
        starts = range(0, batch, most)
        return [{name: array[start : start + most] for name, array in arrays.items()} for start in starts]

    def _run_part(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self._choose_profile(arrays)
        for name, array in arrays.items():
            self._context.set_input_shape(name, array.shape)
            self._cuda.upload(array, self._bind(name, array), self._stream)
        results = {spec.name: self._empty(spec) for spec in self.outputs}
        addresses = {name: self._bind(name, array) for name, array in results.items()}
        size = self._context.update_device_memory_size_for_shapes()
        with ACTIVATIONS.held(size) as activations:
            self._context.set_device_memory(activations, size)
            started = self._context.execute_async_v3(self._stream)
            for name, array in results.items():
                self._cuda.download(array, addresses[name], self._stream)
            self._cuda.synchronise(self._stream)
        if not started:
            raise EngineError(f"{self._engine_name} could not start the network: check the GPU with `cameo doctor`")
        return results

    def _choose_profile(self, arrays: Mapping[str, Tensor]) -> None:
        fitting = [profile for profile in self._profiles if profile.contains(arrays)]
        if not fitting:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            ranges = "; ".join(f"{dict(p.smallest)} to {dict(p.largest)}" for p in self._profiles)
            raise EngineError(
                f"{self._engine_name} was fed {shapes}: it was built for {ranges}; build it with a larger range"
            )
        best = min(fitting, key=lambda profile: profile.volume)
        if best.number != self._profile:
            self._context.set_optimization_profile_async(best.number, self._stream)
            self._cuda.synchronise(self._stream)
            self._profile = best.number

    def _bind(self, name: str, array: Tensor) -> int:
        address = self._buffers[name].at_least(array.nbytes)
        self._context.set_tensor_address(name, address)
        return address

    def _empty(self, spec: TensorSpec) -> Tensor:
        return np.empty(tuple(self._context.get_tensor_shape(spec.name)), spec.dtype)

    def _free(self) -> None:
        self._context = self._engine = self._runtime = None
        for buffer in self._buffers.values():
            buffer.free()
        self._cuda.end_stream(self._stream)
        ACTIVATIONS.leave()


def _spec(trt: ModuleType, engine: Any, index: int) -> TensorSpec:
    name = engine.get_tensor_name(index)
    shape = tuple("?" if axis == -1 else axis for axis in engine.get_tensor_shape(name))
    return TensorSpec(name, np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name, shape)


def _profiles(engine: Any, inputs: Sequence[TensorSpec]) -> list[_Profile]:
    found = []
    for index in range(engine.num_optimization_profiles):
        shapes = {spec.name: engine.get_tensor_profile_shape(spec.name, index) for spec in inputs}
        smallest = {name: tuple(shape[0]) for name, shape in shapes.items()}
        found.append(_Profile(index, smallest, {name: tuple(shape[2]) for name, shape in shapes.items()}))
    return found
