"""The GPUs of this machine, asked of NVIDIA's driver without any CUDA package.

Source of the function names and attribute numbers: the CUDA driver API's reference (cuda.h).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class CudaDevice:
    """One GPU: its name, compute capability ("sm_86") and memory in MiB."""

    name: str
    capability: str
    vram_mib: int


def why_no_gpu() -> str | None:
    """None where a GPU can be used, else one sentence that says what is missing."""
    if _driver() is None:
        return "no NVIDIA driver is here (libcuda.so.1 cannot be loaded)"
    return None if devices() else "the NVIDIA driver is here, but it shows no GPU"


def driver_version() -> str | None:
    """The newest CUDA that the driver can run ("13.0"), or None without a driver."""
    driver, version = _driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def devices() -> list[CudaDevice]:
    """Every GPU that the driver shows; empty without a driver."""
    driver, count = _driver(), ctypes.c_int()
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_device(driver, index) for index in range(count.value)]


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _device(driver: ctypes.CDLL, index: int) -> CudaDevice:
    handle, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(handle), index)
    driver.cuDeviceGetName(name, len(name), handle)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    numbers = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        numbers.append(value.value)
    return CudaDevice(name.value.decode(), f"sm_{numbers[0]}{numbers[1]}", memory.value // 2**20)


def not_installed(package: str) -> str:
    """What is missing of TensorRT, and where it comes from."""
    index = ", from its vendor's package index" if package == "tensorrt" else ""
    return f"the package {package} is not installed (pip install {package} cuda-bindings{index})"
