"""NumPy's values in pickles, made without NumPy's own makers.

Those believe what they are told: a forged dtype lets bytes stand for Python objects, and whoever reads them follows
pointers of the file's choice. These take numbers and shapes, and nothing else; other arrays are kept as opaque.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")


class PlainDtype:
    """A dtype of which the code and the byte order are kept."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        order = str(state[1])
        self.order = order if order in ("<", ">") else "="

    def numbers(self) -> np.dtype[Any] | None:
        """The dtype, if it is one of numbers."""
        return np.dtype(self.order + self.code) if _NUMBERS.fullmatch(self.code) else None


class PlainArray:
    """An array; `values` in this machine's byte order are None where they are no numbers."""

    values: NDArray[Any] | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        kind = dtype.numbers() if isinstance(dtype, PlainDtype) else None
        if kind is None or not isinstance(data, bytes):
            return
        if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(data):
            raise ValueError(f"an array of {kind} {list(shape)} has {len(data)} bytes")
        values = np.frombuffer(data, kind).reshape(shape, order="F" if is_fortran else "C")
        self.values = values.astype(kind.newbyteorder("="), order="C")


def plain_array(*_: Any) -> PlainArray:
    """Stands for `_reconstruct`: an array whose content follows in the pickle."""
    return PlainArray()


def plain_scalar(dtype: Any, data: Any = b"") -> Any:
    """Stands for `scalar`: a number as Python has it, None where it is none."""
    kind = dtype.numbers() if isinstance(dtype, PlainDtype) else None
    return np.frombuffer(data, kind)[0].item() if kind is not None and isinstance(data, bytes) else None


MAKERS: tuple[tuple[Any, str], ...] = (
    (PlainDtype, "numpy.dtype"),
    (PlainArray, "numpy.ndarray"),
    *((plain_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((plain_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
)
"""What is called instead, by NumPy's names for it, which moved with version 2."""
