"""Memory in words: the budget, what is in use, and why batches are as large as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cameo.batches import MOST_PIXELS, MOST_ROWS
from cameo.batching.cost import LARGEST
from cameo.counting import count_of
from cameo.memory.amounts import in_words
from cameo.memory.fitting import Choice, Fitting
from cameo.memory.need import Need, least_pixels
from cameo.memory.room import Room

if TYPE_CHECKING:
    from cameo.batching.batched import Batched
    from cameo.runtime import Runtime


def memory_text(runtime: Runtime, networks: Mapping[str, Batched]) -> str:
    """Of a model that is loaded: a line for each place, and one for each network."""
    used = [
        f"memory ({place}): budget {budget.describe()}, {in_words(budget.own)} in use"
        for place, budget in sorted(runtime.budgets(set()).items())
    ]
    return "\n".join([*used, *(f"{name}: {network.describe()}" for name, network in networks.items())])


def not_limited(networks: Mapping[str, Batched], folder: Path) -> Iterator[str]:
    """A sentence where a budget was given for networks of a bundle that it does not limit."""
    given = {name: size for name, network in networks.items() if (size := network.beyond_budget) is not None}
    if given:
        yield (
            f"Of {', '.join(given)} the budget of {in_words(max(given.values()))} counts the file alone, and does not "
            f"limit what is taken when it runs, which was never measured: run `cameo calibrate {folder}`."
        )


def planned_text(fitting: Fitting, choice: Choice) -> str:
    """Of a model that is not loaded: what its engines would take, and how many rows would fit."""
    return "\n".join(_planned_lines(fitting, choice))


def _planned_lines(fitting: Fitting, choice: Choice) -> Iterator[str]:
    for place, budget in sorted(fitting.budgets(fitting.places(choice)).items()):
        budget.hold(fitting.fixed(choice, place), fitting.base(choice, place))
        left = budget.left
        free = "" if left is None else f", {in_words(left)} of it for what runs"
        yield f"memory ({place}): budget {budget.describe()}{free}"
        for name, entry in fitting.at(choice, place).items():
            need, pixels = fitting.need(name, entry), least_pixels(fitting.bundle.networks[name])
            yield f"  {name} on {entry.label}: " + (
                f"not measured (`cameo calibrate`), so at most {_usual(pixels)} at once"
                if need is None
                else _row_text(need, Room(budget, need), pixels)
            )


def _usual(pixels: int) -> str:
    """How many rows of so many pixels run at once where nobody measured what they take (`cameo/batches.py`)."""
    side = int(pixels**0.5)
    return f"{count_of(max(1, min(MOST_ROWS, MOST_PIXELS // pixels)), 'row')} of {side}x{side}"


def _row_text(need: Need, room: Room, pixels: int) -> str:
    rows, side = room.rows(pixels), int(pixels**0.5)
    fits = f"; up to {min(rows, LARGEST)} rows of {side}x{side} at once, if that pays" if rows is not None else ""
    return f"{need.describe()} ({need.how}){fits}"
