"""Which errors mean that memory ran out.

ONNX Runtime, OpenVINO, OpenCV, TensorRT and C++ have no class of error for it: their words decide.
"""

from __future__ import annotations

import re
from typing import Final

from cameo.errors import OutOfMemory, PhotoError

_WORDS: Final = re.compile(r"bad.alloc|(fail\w*|cannot|unable) to (re)?alloc|(insufficient|out of) ?memory", re.I)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError | OutOfMemory):
            return True
        if not isinstance(error, PhotoError) and _WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False
