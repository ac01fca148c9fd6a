"""A network whose rows wait for the device, and run in batches that fit, pay and change nothing.

    fit       the room that the budget leaves, and what was refused before: out of memory halves a batch and is
              remembered
    pay       the learned cost of batches; a row is given company only where that saves a twentieth of its time
    change    the first batch of a size and shape is also run row by row. If one bit differs, this network's rows run
              alone from then on, unless it was told that rounding may differ (`exact`)

So every row's result is the one that it has alone, whoever else was there (docs/decisions/167).
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from cameo.batches import batch_size
from cameo.batching.cost import Cost
from cameo.batching.refusals import Refusals
from cameo.errors import OutOfMemory, PhotoTooLarge
from cameo.memory.amounts import in_words
from cameo.memory.exhaustion import ran_out_of_memory
from cameo.memory.room import Room
from cameo.session import Session, Tensor
from cameo.spent import spent

if TYPE_CHECKING:
    from cameo.batching.device import Device, Row

Key = tuple[tuple[str, str, tuple[int, ...]], ...]
"""The name, type and shape (without the batch) of every feed: rows of one key can run together."""
Result = dict[str, Tensor] | BaseException

TRIAL_AFTER: Final = 8
"""Rows that run alone between trials, so that one photo pays for none, and many hardly; after each that found that
batches do not pay twice as many, because an engine that compiles for a shape does so twice (docs/decisions/186)."""
_RARELY: Final = 7  # doublings at most
_SHAPES: Final = 64  # that are remembered, the latest
_NEWEST: Final = 0.2
_LONGEST_GAP_S: Final = 1.0  # between rows, so that a quiet night is soon forgotten


class Batched(Session):
    """`session` of the network `name` behind `device`, in the `room` that its memory has."""

    def __init__(
        self, session: Session, device: Device, name: str = "the network", room: Room | None = None, exact: bool = True
    ) -> None:
        self._session, self._device, self._room, self._exact = session, device, room, exact
        self.inputs, self.outputs, self.batches = session.inputs, session.outputs, session.batches
        self.turns, self.engine = session.turns, session.engine
        self.name = name
        device.widen(session.turns)
        self._learning = threading.Lock()
        self._costs: OrderedDict[Key, Cost] = OrderedDict()
        self._alone = False
        self._refusals = Refusals()
        self._alone_since_trial = self._vain_trials = 0
        self._gap_s, self._came = _LONGEST_GAP_S, -math.inf

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every output of the network for one batch, whose rows wait and run with those of others.

        Raises:
            PhotoTooLarge: the budget has no room for one row of its size.
            OutOfMemory: memory ran out at a single row.
            EngineError: the session is closed, the feeds do not fit the network, or it failed on these rows.
        """
        sizes = {len(feed) if isinstance(feed, np.ndarray) and feed.ndim else 0 for feed in feeds.values()}
        if len(sizes) != 1 or 0 in sizes:
            return self._session.run(feeds)  # which says what is wrong with them
        count = sizes.pop()
        rows = [{name: feed[index : index + 1] for name, feed in feeds.items()} for index in range(count)]
        key = key_of(rows[0])
        self._check_room(key)
        with spent(self.name):
            made = self._device.run(self, key, rows)
        return made[0] if count == 1 else {name: np.concatenate([row[name] for row in made]) for name in made[0]}

    def close(self) -> None:
        """Free the network's memory; rows that wait are refused."""
        self._session.close()

    @property
    def most_pixels(self) -> int | None:
        return self._room.most_pixels if self._room else None

    @property
    def beyond_budget(self) -> int | None:
        """The budget that was given in vain, as what the network takes is neither planned nor measured; else None."""
        return self._room.budget.given if self._room and self._room.need is None else None

    def rows_at_once(self, pixels: int) -> int:
        """How many rows of one caller, with pictures of so many pixels, are worth handing over together."""
        with self._learning:
            known = [cost for key, cost in self._costs.items() if pixels_of(key) == pixels]
        return min(self._affordable(pixels), max((cost.worth() for cost in known), default=2))  # two, for a trial

    def batch_for(self, key: Key, waiting: int) -> int:
        """How many of the `waiting` rows of one key shall run at once."""
        if self._alone or waiting < 2:
            return 1
        most = min(waiting, self._affordable(pixels_of(key)), self._worth(key))
        return 1 << most.bit_length() - 1  # powers of two: few sizes, so that few must be compiled and compared

    def is_full(self, key: Key, size: int) -> bool:
        """Whether a batch of several rows would be no larger if more of them waited."""
        return size > 1 and size == self.batch_for(key, 2 * size)

    def patience_s(self, key: Key, waiting: int) -> float:
        """How long that many rows gain by waiting for one more."""
        if self._alone or waiting >= self._affordable(pixels_of(key)):
            return 0.0
        return self._cost(key).patience_s(waiting, self._gap_s)

    def note_arrival(self, now: float) -> None:
        """Somebody brought rows."""
        gap, self._came = min(now - self._came, _LONGEST_GAP_S), now
        self._gap_s += _NEWEST * (gap - self._gap_s)

    def describe(self) -> str:
        """Why batches are as large as they are, in a few words."""
        with self._learning:
            known = [(pixels_of(key), cost) for key, cost in self._costs.items() if cost.pays is not None]
        if self._alone:
            return "rows run alone: a batch gave other bits"
        most = self._refusals.pixels
        refused = f"; memory ran out at {most} pixels at once" if most is not None else ""
        if not known:
            return f"no batch was timed often enough yet{refused}"
        pixels, cost = known[-1]
        most = min(cost.worth(), self._affordable(pixels))
        line = cost.line
        learned = f"a batch of n takes {1000 * line.a:.1f} n + {1000 * line.b:.1f} ms" if line else ""
        return f"{'batches do not pay' if most < 2 else f'up to {most} at once'}: {learned}{refused}"

    def joined(self, rows: Sequence[Row]) -> Mapping[str, Tensor] | None:
        """The feeds of rows of one key as one batch; None where there is no memory for it, as `serve` will find too."""
        with suppress(MemoryError):
            return _joined(rows)
        return None

    def serve(self, rows: Sequence[Row], batch: Mapping[str, Tensor] | None = None) -> dict[Row, Result]:
        """Run rows of one key together: the result of each, or why it has none; called by who owns the device.

        `batch` is what they were `joined` to, if they were.
        """
        try:
            compared = len(rows) > 1 and self._must_compare(rows)
            made = self._compared(rows, batch) if compared else self._made(rows, batch)
        except Exception as error:
            return self._served_apart(rows, error)
        return dict(zip(rows, made, strict=True))

    def _served_apart(self, rows: Sequence[Row], error: Exception) -> dict[Row, Result]:
        """What failed together: by halves where memory ran out, else caller by caller, so that each gets its own."""
        lacking = ran_out_of_memory(error)
        if lacking:
            self._remember(rows)
        if len(rows) == 1 or (not lacking and len({row.visit for row in rows}) == 1):
            if lacking and not isinstance(error, OutOfMemory):
                error = _out_of_memory(self.name, error)
            return dict.fromkeys(rows, error)
        middle = len(rows) // 2
        visits = dict.fromkeys(row.visit for row in rows)
        by_caller = [[row for row in rows if row.visit is visit] for visit in visits]
        results: dict[Row, Result] = {}
        self._device.recoveries += lacking
        for part in (rows[:middle], rows[middle:]) if lacking else by_caller:
            results |= self.serve(part)
        return results

    def _made(self, rows: Sequence[Row], batch: Mapping[str, Tensor] | None = None) -> list[dict[str, Tensor]]:
        batch = batch or _joined(rows)
        started = time.perf_counter()
        outputs = self._session.run(batch)
        self._device.batches[len(rows)] += 1
        with self._learning:
            cost = self._cost_of(rows[0].key)
            if len(rows) == 1:
                self._alone_since_trial += 1
            elif cost.pays is None:
                self._alone_since_trial = 0
            cost.learn(len(rows), time.perf_counter() - started)
            if len(rows) > 1 and cost.pays is not None:
                self._vain_trials = 0 if cost.pays else min(self._vain_trials + 1, _RARELY)
        if len(rows) == 1:
            return [outputs]
        return [{name: output[i : i + 1] for name, output in outputs.items()} for i in range(len(rows))]

    def _must_compare(self, rows: Sequence[Row]) -> bool:
        return self._exact and len(rows) not in self._cost(rows[0].key).same

    def _compared(self, rows: Sequence[Row], batch: Mapping[str, Tensor] | None) -> list[dict[str, Tensor]]:
        """The results that rows have alone; their batch is run as well, to see whether it gives the same bits."""
        together = self._made(rows, batch)
        alone = [self._made([row])[0] for row in rows]
        if all(
            np.array_equal(one[name], other[name]) for one, other in zip(together, alone, strict=True) for name in one
        ):
            self._cost(rows[0].key).same.add(len(rows))
        else:
            self._alone = True
        return alone

    def _affordable(self, pixels: int) -> int:
        """How many rows fit, at least one: by the room, by what was refused, and by what the engine was built for."""
        fitting = self._room.rows(pixels) if self._room else None
        if fitting is None:
            fitting = batch_size(self._session, pixels)
        if (untried := self._refusals.rows(pixels)) is not None:
            fitting = min(fitting, untried)
        if self.batches:
            fitting = min(fitting, self.batches[-1])
        return max(fitting, 1)

    def _check_room(self, key: Key) -> None:
        pixels = pixels_of(key)
        while True:
            most = self.most_pixels
            if self._room is None or most is None or pixels <= most:
                return
            if not self._room.more():
                break
        raise PhotoTooLarge(
            f"The photo needs a picture of {pixels / 1e6:.2f} megapixels in {self.name}, the budget of "
            f"{in_words(self._room.budget.bytes or 0)} has room for {most / 1e6:.2f}: shrink it, work at a smaller "
            "size, or give more memory."
        )

    def _remember(self, rows: Sequence[Row]) -> None:
        """So many pixels at once are too many, if a row can have fewer by being alone."""
        if len(rows) > 1:
            self._refusals.remember(pixels_of(rows[0].key) * len(rows))

    def _worth(self, key: Key) -> int:
        """The largest batch that pays; where that is not known, a trial, if it is time for one and it may pay.

        Where a smaller picture does not pay, a larger one, which fills a device better, does not either. Where any
        other pays, the device gains by company, and it is time at once.
        """
        with self._learning:
            cost = self._cost_of(key)
            if cost.pays is not None:
                return cost.worth()
            others = [(pixels_of(of), one.pays) for of, one in self._costs.items()]
            if any(pays is False and pixels <= pixels_of(key) for pixels, pays in others):
                return 1
            is_time = self._alone_since_trial >= TRIAL_AFTER << self._vain_trials or any(pays for _, pays in others)
            return cost.worth() if is_time else 1

    def _cost(self, key: Key) -> Cost:
        with self._learning:
            return self._cost_of(key)

    def _cost_of(self, key: Key) -> Cost:
        cost = self._costs.setdefault(key, Cost())
        self._costs.move_to_end(key)
        while len(self._costs) > _SHAPES:
            self._costs.popitem(last=False)
        return cost


def key_of(row: Mapping[str, Tensor]) -> Key:
    """What rows must share to run together."""
    return tuple((name, feed.dtype.name, feed.shape[1:]) for name, feed in sorted(row.items()))


def _joined(rows: Sequence[Row]) -> Mapping[str, Tensor]:
    if len(rows) == 1:
        return rows[0].feeds
    return {name: np.concatenate([row.feeds[name] for row in rows]) for name in rows[0].feeds}


def pixels_of(key: Key) -> int:
    """Pixels of the picture of a row: height times width of its largest feed."""
    largest = max((shape for _, _, shape in key), key=lambda shape: int(np.prod(shape)))
    return int(np.prod(largest[:2]))


def _out_of_memory(title: str, error: Exception) -> OutOfMemory:
    made = OutOfMemory(
        f"memory ran out in {title} at a single picture ({error}): use a smaller size or tile, or free some memory"
    )
    made.__cause__ = error
    return made
