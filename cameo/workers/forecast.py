"""How long calls take, by what the last ones of their model and mode took (docs/decisions/183)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final

from cameo.learned_line import LearnedLine
from cameo.workers.calls import Call
from cameo.workers.seat import Job, WorkerSeat

_DEVIATIONS: Final = 5
_SLOWER: Final = 0.05


class Forecast:
    """Of calls for the workers on `seats`, which have `in_flight` each at once; one thread at a time.

    `waiting` are the calls before the workers.
    """

    def __init__(self, seats: Sequence[WorkerSeat], in_flight: int) -> None:
        self._seats, self._in_flight = seats, in_flight
        self._costs: dict[tuple[str, str], LearnedLine] = {}

    def learn(self, job: Job, share_s: float) -> bool:
        """A call was charged so much of its worker's time; whether it is the first of its kind."""
        cost = self._cost(job.call)
        is_first = cost.usual(job.megapixels) is None
        cost.learn(job.megapixels, share_s)
        return is_first

    def usual_s(self, call: Call, megapixels: float) -> float:
        """What a call costs; 0 before any was seen."""
        return self._cost(call).usual(megapixels) or 0.0

    def wait_s(self, waiting: Collection[Job]) -> float:
        """How long new work would wait, by what calls cost so far, and workers took to start."""
        staffed = [seat for seat in self._seats if seat.opened]
        left = [self.usual_s(job.call, job.megapixels) for job in waiting]
        for seat in staffed:
            now = seat.tick()
            left += [max(self.usual_s(job.call, job.megapixels) - (now - job.share), 0.0) for job in seat.inside]
        starting_s = 0.0 if staffed else min(seat.breaker.wait_s + seat.start_s for seat in self._seats)
        return starting_s + sum(left) / max(len(staffed), 1)

    def done_in_s(self, usual_s: float, waiting: Collection[Job]) -> float:
        """How long a call of that cost takes that comes after all others: it waits, and then shares its worker.

        One that goes straight inside does not wait for those that it shares it with.
        """
        ahead = len(waiting) + sum(len(seat.inside) for seat in self._seats)
        takes_s = self.wait_s(waiting) + usual_s * min(ahead + 1, self._in_flight)
        at_once = not waiting and any(seat.has_room(self._in_flight) for seat in self._seats)
        return min(takes_s, usual_s * self._in_flight) if at_once else takes_s

    def doubt_s(self, waiting: Collection[Job]) -> float:
        """How much longer it may well be: five standard deviations of what the calls before it take together.

        And a twentieth of it: under load a machine is slower than it was, for all of them alike.
        """
        calls = [job.call for job in (*waiting, *(job for seat in self._seats for job in seat.inside))]
        spread = math.sqrt(sum(self._cost(call).variance for call in calls))
        return _DEVIATIONS * spread + _SLOWER * self.wait_s(waiting)

    def _cost(self, call: Call) -> LearnedLine:
        return self._costs.setdefault((call.model, call.mode), LearnedLine())
