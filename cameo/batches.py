"""How many rows a flow hands over at once: it has crops, heads or tiles, one after another, and cares for each.

A session that waits for a device's turn knows what fits and pays (`cameo/batching`); it is asked. Any other gets at
most four faces of 512 pixels, as fast as any number on the CPUs measured (docs/decisions/135).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from cameo.session import Session, Tensor

MOST_ROWS = 4
MOST_PIXELS = MOST_ROWS * 512**2


def batch_size(session: Session, pixels: int) -> int:
    """How many rows with pictures of so many pixels `session` is given at once."""
    if (liked := session.rows_at_once(pixels)) is not None:
        return liked
    affordable = max(1, min(MOST_ROWS, MOST_PIXELS // max(pixels, 1)))
    built_for = [size for size in session.batches if size <= affordable]
    return built_for[-1] if built_for else (session.batches[0] if session.batches else affordable)


def run_rows(session: Session, rows: Iterable[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """What `session` makes of each row, in order; a row is one element of a batch, of every input and output.

    Rows are taken as they are needed, so that memory holds one batch of them. All of them have one shape.
    """
    waiting = iter(rows)
    first = next(waiting, None)
    if first is None:
        return
    picture = max(first.values(), key=lambda tensor: tensor.size)
    size = batch_size(session, int(np.prod(picture.shape[:2])))
    batch = [first, *islice(waiting, size - 1)]
    while batch:
        outputs = session.run({name: np.stack([row[name] for row in batch]) for name in first})
        yield from ({name: output[index] for name, output in outputs.items()} for index in range(len(batch)))
        batch = list(islice(waiting, size))
