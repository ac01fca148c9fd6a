"""The engines of a bundle that fit into the memory of the places where they run.

What an engine takes that nobody planned or measured is at least its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cameo.bundle import Bundle, EngineEntry
from cameo.errors import OutOfMemory
from cameo.memory.amounts import MIB, enough_in_words
from cameo.memory.budget import Budget
from cameo.memory.calibration import Measured, key_of, known_of
from cameo.memory.free import CUDA
from cameo.memory.need import Need, least_pixels, planned
from cameo.planned import CONTEXT_MIB

Choice = Mapping[str, EngineEntry]
"""An engine for every network."""


@dataclass(frozen=True)
class Fitting:
    """Weighs engines of `bundle` against budgets; `place_of` says where an engine runs.

    `in_turn`: one network is open at a time (`cameo/low_memory.py`), so that the largest counts and not their sum.
    """

    bundle: Bundle
    budgets: Callable[[set[str]], Mapping[str, Budget]]
    place_of: Callable[[EngineEntry], str]
    in_turn: bool = False
    _known: dict[str, Mapping[str, Measured]] = field(default_factory=dict)

    def need(self, network: str, entry: EngineEntry) -> Need | None:
        """What a network takes on an engine, planned or measured; None where neither is known."""
        measured = self._measured(network, entry)
        return measured.need if measured else planned(entry)

    def places(self, choice: Choice) -> set[str]:
        """Where the engines of a choice run."""
        return {self.place_of(entry) for entry in choice.values()}

    def at(self, choice: Choice, place: str) -> Choice:
        """The networks of a choice whose engines run there."""
        return {name: entry for name, entry in choice.items() if self.place_of(entry) == place}

    def base(self, choice: Choice, place: str) -> int:
        """Bytes of the process itself at `place`, before any network; of a computer's where they were measured."""
        measured = (self._measured(name, entry) for name, entry in self.at(choice, place).items())
        return max((one.base_bytes for one in measured if one), default=CONTEXT_MIB * MIB if place == CUDA else 0)

    def fixed(self, choice: Choice, place: str) -> float:
        """Bytes that the networks of a choice hold at `place` while none runs."""
        each = [self._need_or_file(name, entry).fixed for name, entry in self.at(choice, place).items()]
        return max(each, default=0.0) if self.in_turn else sum(each)

    def least(self, choice: Choice, place: str) -> float:
        """Bytes that a choice takes at `place`, its networks at the smallest picture that they must be able to take."""
        here = self.at(choice, place).items()
        needs = [(self._need_or_file(name, entry), least_pixels(self.bundle.networks[name])) for name, entry in here]
        if self.in_turn:
            return self.base(choice, place) + max((need.of(n) for need, n in needs), default=0.0)
        running = max((need.per_pixel * n for need, n in needs), default=0.0)
        return self.base(choice, place) + self.fixed(choice, place) + running

    def first(self, choices: Iterable[Choice]) -> Choice:
        """The first choice that fits every place that it runs at.

        Raises:
            OutOfMemory: none does; the message says what the least demanding one would take.
        """
        refused: list[tuple[float, Budget, Choice]] = []
        for choice in choices:
            short = [
                (self.least(choice, place), budget, choice)
                for place, budget in self.budgets(self.places(choice)).items()
                if (size := budget.bytes) is not None and self.least(choice, place) > size
            ]
            if not short:
                return choice
            refused += short
        raise OutOfMemory(self._refusal(*min(refused, key=lambda one: one[0])))

    def _refusal(self, size: float, budget: Budget, choice: Choice) -> str:
        labels = ", ".join(dict.fromkeys(entry.label for entry in choice.values()))
        takes, advice = f"about {enough_in_words(size)}, on {labels}", "give it that much"
        if not all(self.need(name, entry) for name, entry in choice.items()):
            more = f"and how much more was never measured (`cameo calibrate {self.bundle.folder}`)"
            takes, advice = f"at least {enough_in_words(size)}, on {labels}, {more}", "give it more"
        return (
            f"{self.bundle.manifest.model} does not fit into {budget.describe()}: the least that it takes is {takes}; "
            f"{advice} (`memory`), or build a smaller one"
        )

    def _need_or_file(self, network: str, entry: EngineEntry) -> Need:
        return self.need(network, entry) or Need(entry.file.bytes, 0, "file")

    def _measured(self, network: str, entry: EngineEntry) -> Measured | None:
        place = self.place_of(entry)
        if place not in self._known:
            self._known[place] = known_of(self.bundle, place)
        return self._known[place].get(key_of(network, entry))
