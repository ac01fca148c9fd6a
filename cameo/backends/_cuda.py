"""The few CUDA calls that a session makes, and the device memory that it keeps. Not yet run on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cameo.errors import EngineError
from cameo.session import Tensor


class Cuda:
    """The CUDA runtime, through cuda-bindings; every failed call is an `EngineError`."""

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._runtime: Any = runtime

    def allocate(self, size: int) -> int:
        """The address of `size` new bytes on the device."""
        error, address = self._runtime.cudaMalloc(size)
        if error == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            raise EngineError(
                f"the GPU has no {size / 2**20:.0f} MiB free: use a smaller size or batch (`cameo plan` says what fits)"
            )
        self._check(error)
        return int(address)

    def free(self, address: int) -> None:
        self._check(*self._runtime.cudaFree(address))

    def new_stream(self) -> int:
        """The handle of a new stream."""
        error, stream = self._runtime.cudaStreamCreate()
        self._check(error)
        return int(stream)

    def end_stream(self, stream: int) -> None:
        self._check(*self._runtime.cudaStreamDestroy(stream))

    def upload(self, array: Tensor, address: int, stream: int) -> None:
        """Start to copy a C-contiguous array to the device; it must live until the stream is synchronised."""
        to_device = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._check(*self._runtime.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, to_device, stream))

    def download(self, array: Tensor, address: int, stream: int) -> None:
        """Start to fill a C-contiguous array from the device; it is filled when the stream is synchronised."""
        to_host = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._check(*self._runtime.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, to_host, stream))

    def synchronise(self, stream: int) -> None:
        """Wait for everything that was started on `stream`."""
        self._check(*self._runtime.cudaStreamSynchronize(stream))

    def _check(self, error: Any) -> None:
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise EngineError(f"CUDA failed with {error.name}: check the driver with `cameo doctor`, then try again")


class DeviceBuffer:
    """Device memory that only grows: a session of mixed sizes settles at the largest that it has seen."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._address, self._size = cuda, 0, 0

    def at_least(self, size: int) -> int:
        """The address of at least `size` bytes; what the buffer held before is gone if it had to grow."""
        if size > self._size:
            self.free()
            self._address, self._size = self._cuda.allocate(size), size
        return self._address

    def free(self) -> None:
        address, self._address, self._size = self._address, 0, 0
        if address:
            self._cuda.free(address)


class SharedActivations:
    """Activation memory that all sessions of a process take turns with: weights add up, activations do not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buffer: DeviceBuffer | None = None
        self._users = 0

    def join(self, cuda: Cuda) -> None:
        """A session begins to use the memory."""
        with self._lock:
            self._buffer = self._buffer or DeviceBuffer(cuda)
            self._users += 1

    def leave(self) -> None:
        """A session ends; the last one frees the memory."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._buffer is not None:
                self._buffer.free()
                self._buffer = None

    @contextmanager
    def held(self, size: int) -> Iterator[int]:
        """The address of at least `size` bytes that no other session touches meanwhile."""
        with self._lock:
            if self._buffer is None:
                raise EngineError("activation memory was asked for without a session: open one first")
            yield self._buffer.at_least(size)


ACTIVATIONS = SharedActivations()
