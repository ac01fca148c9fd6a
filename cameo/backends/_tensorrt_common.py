"""What running TensorRT and TensorRT-RTX engines shares. Not yet run on a GPU.

Device memory is held in one buffer per tensor that grows to the largest request and is reused; activations are
allocated for the current optimization profile only, so a small photo after a large one gives memory back.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from cameo.backends import SessionOptions
from cameo.cuda_driver import why_no_gpu
from cameo.errors import EngineError, EngineUnavailable
from cameo.session import Tensor


class Cuda(Protocol):
    """The few calls of the CUDA runtime that a session needs; tests put a fake in its place."""

    stream: int

    def allocate(self, size: int) -> int: ...

    def free(self, address: int) -> None: ...

    def upload(self, address: int, array: Tensor) -> None: ...

    def download(self, array: Tensor, address: int) -> None: ...


class CudaRuntime:
    """The CUDA runtime through NVIDIA's cuda-bindings; every call that fails raises EngineError."""

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module("cuda.bindings.runtime")
        self.stream = int(self._call("cudaStreamCreate"))

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *results = getattr(self._cuda, name)(*arguments)
        if int(error) != 0:
            raise EngineError(
                f"{name} failed with {error}: is another program using the GPU? `cameo plan` says what fits"
            )
        return results[0] if results else None

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def upload(self, address: int, array: Tensor) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self.stream)

    def download(self, array: Tensor, address: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self.stream)
        self._call("cudaStreamSynchronize", self.stream)


def why_module_unavailable(module: str, package: str) -> str | None:
    """None, or which of package, CUDA bindings and GPU is missing."""
    for name, distribution in ((module, package), ("cuda.bindings", "cuda-bindings")):
        if not _is_installed(name):
            return f"the package {distribution} is not installed (pip install 'cameo[{package}]')"
    return why_no_gpu()


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class TensorRtSession:
    """One engine, deserialized by `trt` (the module tensorrt or tensorrt_rtx), with one execution context."""

    def __init__(self, trt: Any, cuda: Cuda, path: Path) -> None:
        self._trt, self._cuda = trt, cuda
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(f"{trt.__name__} {trt.__version__} cannot load {path}: build it again with this version")
        strategy = trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise EngineError(f"{trt.__name__} has no memory for {path}: `cameo plan` says what fits")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self._inputs = [name for name in names if is_input[name]]
        self._outputs = [name for name in names if not is_input[name]]
        self._buffers: dict[str, tuple[int, int]] = {}
        self._profile: int | None = None

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output of the network for one batch.

        Raises:
            EngineError: the feeds are not the network's inputs, or no optimization profile takes their shape.
        """
        if set(feeds) != set(self._inputs):
            raise EngineError(f"expected the inputs {', '.join(self._inputs)}, got {', '.join(feeds)}")
        self._choose_profile(feeds)
        for name, array in feeds.items():
            expected = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            if array.dtype != expected:
                raise EngineError(f"the input {name} is {array.dtype}, expected {expected}")
            contiguous = np.ascontiguousarray(array)
            self._context.set_input_shape(name, contiguous.shape)
            self._cuda.upload(self._place(name, contiguous.nbytes), contiguous)
        results = {}
        for name in self._outputs:
            dtype = self._trt.nptype(self._engine.get_tensor_dtype(name))
            results[name] = np.empty(tuple(self._context.get_tensor_shape(name)), dtype)
            self._place(name, results[name].nbytes)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise EngineError(f"{self._trt.__name__} failed while running: is another program using the GPU?")
        for name, array in results.items():
            self._cuda.download(array, self._buffers[name][0])
        return results

    def _choose_profile(self, feeds: Mapping[str, Tensor]) -> None:
        """The smallest profile that takes the feeds' shapes: profiles are built from small to large."""
        for index in range(self._engine.num_optimization_profiles):
            if all(self._takes(index, name, array.shape) for name, array in feeds.items()):
                if index != self._profile:
                    self._context.set_optimization_profile_async(index, self._cuda.stream)
                    self._profile = index
                return
        shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
        raise EngineError(f"no optimization profile of the engine takes {shapes}: use a smaller size or batch")

    def _takes(self, index: int, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, index)
        return len(shape) == len(tuple(most)) and all(
            low <= side <= high for low, side, high in zip(least, shape, most, strict=True)
        )

    def _place(self, name: str, size: int) -> int:
        """The device address of a tensor's buffer of at least `size` bytes, known to the context."""
        address, held = self._buffers.get(name, (0, 0))
        if size > held:
            if held:
                del self._buffers[name]
                self._cuda.free(address)
            address = self._cuda.allocate(size)
            self._buffers[name] = (address, size)
        self._context.set_tensor_address(name, address)
        return address

    def close(self) -> None:
        for address, _ in self._buffers.values():
            self._cuda.free(address)
        self._buffers, self._context, self._engine = {}, None, None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_with(module: str, package: str, path: Path, options: SessionOptions) -> TensorRtSession:
    """The engine at `path`, loaded on the first GPU.

    Raises:
        EngineUnavailable: a package or the GPU is missing, or another device or precision is asked for.
    """
    reason = why_module_unavailable(module, package)
    if reason is not None:
        raise EngineUnavailable(f"{package} cannot run here: {reason}")
    if options.device not in ("", "cuda"):
        raise EngineUnavailable(f"{package} runs on 'cuda', not on '{options.device}': choose another engine")
    return TensorRtSession(importlib.import_module(module), CudaRuntime(), path)
