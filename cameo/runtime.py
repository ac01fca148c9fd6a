"""The devices that models of this process run on, and the memory that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from cameo.backends import runs
from cameo.batching.batched import Batched
from cameo.batching.device import Device
from cameo.bundle import EngineEntry
from cameo.memory.amounts import as_bytes
from cameo.memory.budget import Budget
from cameo.memory.fitting import Choice, Fitting
from cameo.memory.free import CPU, CUDA
from cameo.memory.room import Room
from cameo.session import Session


class Runtime:
    """One owner for each device, and one budget of memory for each place; several models may share them.

    `memory` ("4GiB", or bytes) is meant for the GPU where an engine runs on one, else for the computer; "" is 0.8 of
    what is free. The other place always has 0.8 of what is free there. With `exact`, rows run together only where that
    changes no bit of their results. `evict(wait)` closes a model that is open and not in use, `wait` until one is not;
    False where there is none: so a model finds room that others hold.

    Raises:
        RequestError: `memory` is no amount of memory.
    """

    def __init__(
        self, memory: str | int = "", exact: bool = True, evict: Callable[[bool], bool] = lambda wait: False
    ) -> None:
        self._given = as_bytes(memory) if memory != "" else None
        self._exact, self._evict = exact, evict
        self._budgets: dict[str, Budget] = {}
        self._devices: dict[str, Device] = {}

    def budgets(self, places: set[str]) -> Mapping[str, Budget]:
        """The budgets of a model whose engines run at these places; of none, all that there are."""
        meant = CUDA if CUDA in places else CPU
        for place in places - set(self._budgets):
            self._budgets[place] = Budget(place, self._given if place == meant else None)
        return {place: self._budgets[place] for place in places or list(self._budgets)}

    def device(self, place: str) -> Device:
        """The owner of the device at `place`."""
        return self._devices.setdefault(place, Device())

    def batched(self, sessions: Mapping[str, Session], choice: Choice, fitting: Fitting) -> dict[str, Batched]:
        """The sessions of a model behind the devices that they run on, in the room that the budgets leave."""
        made = {}
        for name, session in sessions.items():
            place = fitting.place_of(choice[name])
            budget = self.budgets(fitting.places(choice))[place]
            room = Room(budget, fitting.need(name, choice[name]), session.turns, lambda: self._evict(False))
            made[name] = Batched(session, self.device(place), name, room, self._exact)
        return made

    def make_room(self, choice: Choice, fitting: Fitting) -> None:
        """Have others closed until a model fits beside those that stay, as far as any can be."""
        for place, budget in self.budgets(fitting.places(choice)).items():
            least = fitting.least(choice, place)
            while (free := budget.free) is not None and least > free and self._evict(True):
                pass

    @contextmanager
    def visit(self) -> Iterator[Callable[[], None]]:
        """Within it, this thread's rows are those of one caller; what it yields gives them up, from any thread."""
        with ExitStack() as visiting:
            visits = [(device, visiting.enter_context(device.visit())) for device in list(self._devices.values())]

            def give_up() -> None:
                for device, visit in visits:
                    device.give_up(visit)

            yield give_up

    def hold(self, choice: Choice, fitting: Fitting, sign: int = 1) -> None:
        """Count what a model holds throughout against the budgets, from when it is opened; `sign` -1: no more."""
        for place, budget in self.budgets(fitting.places(choice)).items():
            budget.hold(sign * fitting.fixed(choice, place), fitting.base(choice, place))

    @property
    def devices(self) -> Mapping[str, Device]:
        """The owners of the devices that models run on so far, by place."""
        return self._devices

    def close(self) -> None:
        """End the owners of the devices; what waits is run before. Close the models first."""
        for device in self._devices.values():
            device.close()


def place_of(entry: EngineEntry, device: str) -> str:
    """Where an engine runs, if `device` ("" for its own choice) was asked for."""
    way = runs(entry.engine, entry.precision)
    devices = way.devices if way else (CPU,)
    return device if device in devices else devices[0]
