"""A TensorRT whose engine inverts images, and a CUDA whose device memory is this process's: what a session sees."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

PROFILES = (((1, 8, 8, 3), (1, 64, 64, 3)), ((1, 8, 8, 3), (4, 256, 256, 3)), ((1, 8, 8, 3), (1, 128, 128, 3)))


class FakeCuda:
    """Counts what is allocated; addresses are real, so that a wrong one is a wrong picture."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.allocations: list[int] = []
        self.streams: list[int] = []
        self.pending: dict[int, list[tuple[int, int, int]]] = {}

    def allocate(self, size: int) -> int:
        memory = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(memory)] = memory
        self.allocations.append(size)
        return ctypes.addressof(memory)

    def free(self, address: int) -> None:
        del self.held[address]

    def new_stream(self) -> int:
        stream = 7 + len(self.pending)
        self.streams.append(stream)
        self.pending[stream] = []
        return stream

    def end_stream(self, stream: int) -> None:
        self.streams.remove(stream)

    def upload(self, array: np.ndarray, address: int, stream: int) -> None:
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray, address: int, stream: int) -> None:
        self.pending[stream].append((array.ctypes.data, address, array.nbytes))

    def synchronise(self, stream: int) -> None:
        """Copies arrive only now, as on a device: who reads a result before is found out."""
        for copy in self.pending[stream]:
            ctypes.memmove(*copy)
        self.pending[stream].clear()


class FakeEngine:
    """uint8 image -> 255 - image, with three profiles, not in the order of their size."""

    num_io_tensors = 2
    num_optimization_profiles = len(PROFILES)

    def __init__(self) -> None:
        self.context = FakeContext()

    def create_execution_context(self, strategy: str) -> FakeContext:
        assert strategy == "user managed"
        return self.context

    def get_tensor_name(self, index: int) -> str:
        return ("image", "result")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "UINT8"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, -1, -1, 3)

    def get_tensor_profile_shape(self, name: str, index: int) -> tuple[tuple[int, ...], ...]:
        smallest, largest = PROFILES[index]
        return smallest, largest, largest


class FakeContext:
    """Checks that a run is prepared as TensorRT requires before it inverts the image."""

    def __init__(self) -> None:
        self.switches: list[int] = []
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.activations = (0, 0)
        self.starts = True

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.switches.append(index)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, largest = PROFILES[self.switches[-1] if self.switches else 0]
        assert all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return 100 * int(np.prod(self.shape))

    def set_device_memory(self, address: int, size: int) -> None:
        self.activations = (address, size)

    def execute_async_v3(self, stream: int) -> bool:
        size = int(np.prod(self.shape))
        assert self.activations[1] >= 100 * size
        ctypes.memset(self.activations[0], 1, self.activations[1])
        image = np.frombuffer(ctypes.string_at(self.addresses["image"], size), np.uint8)
        ctypes.memmove(self.addresses["result"], (255 - image).tobytes(), size)
        return self.starts


def module(engine: FakeEngine | None) -> Any:
    """Stands in for the module `tensorrt`; its runtime loads `engine` from any file."""
    logger = SimpleNamespace(ERROR=1)
    return SimpleNamespace(
        Logger=type("Logger", (), {"ERROR": logger.ERROR, "__init__": lambda self, severity: None}),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: engine),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user managed"),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        nptype=lambda dtype: {"UINT8": np.uint8}[dtype],
    )
