"""Amounts of memory, as people write them."""

from __future__ import annotations

import math
import re
from typing import Final

from cameo.errors import RequestError

MIB: Final = 2**20
_UNITS: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def as_bytes(amount: str | int) -> int:
    """The bytes of "4GiB", "512 MiB", "2.5GB", or of a number of bytes; as text that is at least a MiB.

    Raises:
        RequestError: it is no such amount, or none above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(amount))
    unit = _UNITS.get(found[2].lower()) if found else None
    least = MIB if isinstance(amount, str) and found and not found[2] else 1  # of "4", GiB are meant
    if found is None or unit is None or isinstance(amount, bool) or int(float(found[1]) * unit) < least:
        bytes_ = " (bytes)" * (least > 1)
        raise RequestError(f"The amount of memory is {amount!r:.60}{bytes_}, expected one such as 4GiB or 512MiB.")
    return int(float(found[1]) * unit)


def in_words(size: float) -> str:
    """ "812 MiB", or "3.4 GiB" from one GiB on."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / MIB:.0f} MiB"


def enough_in_words(size: float) -> str:
    """The least amount in the words of `in_words` that holds so many bytes."""
    mib = math.ceil(size / MIB)
    return f"{math.ceil(size / 2**30 * 10) / 10:.1f} GiB" if mib >= 1024 else f"{mib} MiB"
