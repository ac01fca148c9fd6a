"""What a worker does with a call: decode, run, encode. It opens engines, so a front does not import it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameo.declaring import PHOTO, from_texts
from cameo.errors import EngineError, PhotoTooLarge, RequestError
from cameo.images import Encoding, ReadOptions, read_pictures
from cameo.memory.exhaustion import ran_out_of_memory
from cameo.provenance.saving import encoded
from cameo.workers.calls import PARTS, Answer, Call, Place, Served, WorkerState, WorkOptions
from cameo.workers.shelf import Shelf

if TYPE_CHECKING:
    from cameo.loading import Loaded


@dataclass(eq=False)
class _Wanted:
    """Whether anybody still wants the answer to a call, and how to drop what waits of it."""

    given_up: bool = False
    drop: Callable[[], None] = lambda: None

    def check(self) -> None:
        if self.given_up:
            raise EngineError("the call was given up: nobody wanted its answer")


class Work:
    """Answers calls for the models `served`, from any thread, all under one budget of memory.

    Raises:
        RequestError: `options.memory` is no amount.
        SigningError: pictures cannot be signed.
    """

    def __init__(self, served: Sequence[Served], options: WorkOptions) -> None:
        self._shelf = Shelf(served, options)
        self._reading = ReadOptions(options.max_megapixels * 1_000_000)
        self._wanted: dict[Call, _Wanted] = {}
        self._signer = None
        if options.signing:
            from cameo.provenance.signing import Signer

            self._signer = Signer(*map(Path, options.signing))

    def open(self) -> None:
        """Open the models, as far as the budget has room.

        Raises:
            CameoError: one cannot be opened.
        """
        self._shelf.open_all()

    def answer(self, call: Call) -> Answer:
        """The answer to a call.

        Raises:
            PhotoError: a photo cannot be read, or does not fit into memory.
            RequestError: the model is not served, or the call is not what it takes.
            EngineError: the model cannot be opened, a network failed, or the call was given up.
        """
        wanted = self._wanted[call] = _Wanted()
        began = time.perf_counter()
        try:
            with self._shelf.taken(call.model, call.mode) as model:
                try:
                    return self._answered(model, call, wanted, [began, time.perf_counter()])
                except Exception as error:
                    if ran_out_of_memory(error):
                        why = "the photo does not fit into the memory of this machine: shrink it"
                        raise PhotoTooLarge(why) from error
                    raise
        finally:
            del self._wanted[call]

    def _answered(self, model: Loaded, call: Call, wanted: _Wanted, times: list[float]) -> Answer:
        own = {one.name for one in model.per_call if one.kind is PHOTO}
        read = read_pictures(call.files, replace(self._reading, allow_truncated=call.allow_truncated))
        photos = {name: picture for name, picture in read.items() if name not in own}
        request = model.request(**_read(model, call.fields), **{name: read[name] for name in own & set(read)})
        times.append(time.perf_counter())
        with model.runtime.visit() as wanted.drop:
            wanted.check()
            outcome = model.run(photos, request, consent=call.consent)
        times.append(time.perf_counter())
        wanted.check()
        how = Encoding(call.quality or Encoding.quality, png_level=1)  # docs/decisions/181
        content = encoded(outcome, call.suffix, next(iter(photos.values())).exif, self._signer, how)
        times.append(time.perf_counter())
        seconds = {part: after - before for part, (before, after) in zip(PARTS[1:], pairwise(times), strict=True)}
        return Answer(content, len(outcome.faces), outcome.note, seconds)

    def give_up(self, call: Call) -> None:
        """Drop what waits of a call, or comes later; a batch that runs goes on."""
        if (wanted := self._wanted.get(call)) is not None:
            wanted.given_up = True
            wanted.drop()

    def state(self) -> WorkerState:
        """What it holds, and did so far."""
        runtime = self._shelf.runtime
        budgets = runtime.budgets(set()).items()
        memory = {place: Place(budget.own, budget.bytes) for place, budget in budgets}
        devices = list(runtime.devices.values())
        batches: dict[str, int] = {}
        for device in devices:
            for rows, times in device.batches.copy().items():
                batches[str(rows)] = batches.get(str(rows), 0) + times
        recoveries = sum(device.recoveries for device in devices)
        return WorkerState(memory, self._shelf.opened(), batches, recoveries, self._shelf.loads)

    def close(self) -> None:
        """Free every model."""
        self._shelf.close()


def _read(model: Loaded, fields: Mapping[str, str]) -> Mapping[str, Any]:
    """Options of a call, read from text; what is unknown stays text, and is refused by name.

    Raises:
        RequestError: a picture came as text, a path perhaps.
    """
    known = {one.name: one for one in model.per_call}
    if paths := [name for name in fields if name in known and known[name].kind is PHOTO]:
        raise RequestError(f"{', '.join(paths)} came as text, expected a picture: send its file")
    return from_texts(model.per_call, fields)
