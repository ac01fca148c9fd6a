"""Models that are open under one budget: the least recently used leaves when another needs its room, and comes back.

Each gets the engine and mode that it would get alone (docs/decisions/185).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cameo.bundle import Bundle
from cameo.declaring import declarations, from_texts
from cameo.errors import RequestError
from cameo.flows import flow_module
from cameo.loading import Loaded, load
from cameo.memory.heap import give_back
from cameo.modes import MODES
from cameo.runtime import Runtime
from cameo.workers.calls import Opened, Served, WorkOptions


@dataclass(eq=False)
class _Book:
    """A model that is open in the mode that was `asked` for, and how many calls use it."""

    served: Served
    asked: str
    loaded: Loaded
    users: int = 0

    @property
    def mode(self) -> str:
        """The mode of what runs: of its networks', the one that gives up most."""
        return max((entry.mode for entry in self.loaded.engines.values()), key=MODES.index)

    def opened(self) -> Opened:
        engines = {name: entry.label for name, entry in self.loaded.engines.items()}
        return Opened(self.served.name, self.mode, engines, self.loaded.batches(), self.loaded.notes)


class Shelf:
    """The models `served`, each opened when it is taken; any thread may take one.

    `loads` counts how often one was opened.
    """

    def __init__(self, served: Sequence[Served], options: WorkOptions) -> None:
        self._served = {one.name: one for one in served}
        self.runtime = Runtime(options.memory, options.exact, self._evict)
        self.loads = 0
        self._books: list[_Book] = []  # the one used last at the end
        self._changed = threading.Condition()
        self._opening = threading.Lock()
        self._short = False  # a model waits until another is not in use: none is taken meanwhile

    def open_all(self) -> None:
        """Open every model until the budget is full, the first ones first.

        Raises:
            CameoError: one cannot be opened at all.
        """
        for one in self._served.values():
            with self.taken(one.name):
                pass
            if len(self._books) < self.loads:
                return  # this one took another's place

    @contextmanager
    def taken(self, name: str, mode: str = "") -> Iterator[Loaded]:
        """A model, open, which nobody closes within the block.

        Raises:
            CameoError: it cannot be opened.
        """
        book = self._take(name, mode)
        if book is None:
            with self._opening:  # one at a time, so that each sees what the others left
                book = self._take(name, mode) or self._open(name, mode)
        try:
            yield book.loaded
        finally:
            with self._changed:
                book.users -= 1
                self._changed.notify_all()

    def opened(self) -> tuple[Opened, ...]:
        """What is open, the one used last at the end."""
        with self._changed:
            return tuple(book.opened() for book in self._books)

    def close(self) -> None:
        """Free everything."""
        with self._changed:
            books, self._books = self._books, []
        for book in books:
            book.loaded.close()
        self.runtime.close()

    def _take(self, name: str, mode: str) -> _Book | None:
        """The model, if it is open."""
        with self._changed:
            self._changed.wait_for(lambda: not self._short)
            asked = mode or str(self._one(name).loading.get("mode", ""))
            for book in self._books:
                if book.served.name == name and (asked == book.asked or (asked or MODES[0]) == book.mode):
                    self._books.remove(book)
                    self._books.append(book)
                    book.users += 1
                    return book
        return None

    def _one(self, name: str) -> Served:
        if name not in self._served:
            raise RequestError(f"no model {name!r:.80} is served, expected one of {', '.join(self._served)}")
        return self._served[name]

    def _open(self, name: str, mode: str) -> _Book:
        served = self._one(name)
        if mode:
            served = replace(served, loading={**served.loading, "mode": mode})
        book = _Book(
            self._served[name], str(served.loading.get("mode", "")), open_served(served, self.runtime), users=1
        )
        with self._changed:
            self._books.append(book)
            self.loads += 1
        return book

    def _evict(self, wait: bool) -> bool:
        """Close the model that was used least recently among those that nobody uses; whether one was."""
        with self._changed:
            if wait and self._books:
                self._short = True
                self._changed.wait_for(lambda: any(not book.users for book in self._books))
                self._short = False
                self._changed.notify_all()
            idle = next((book for book in self._books if not book.users), None)
            if idle is None:
                return False
            self._books.remove(idle)
        idle.loaded.close()
        give_back()
        return True


def open_served(served: Served, runtime: Runtime) -> Loaded:
    """A model that is served, opened by `cameo.load`.

    Raises:
        CameoError: it cannot be opened.
    """
    return load(served.bundle, runtime=runtime, **served.loading, **_options(served))


def _options(served: Served) -> Mapping[str, Any]:
    """The options of the flow, read from text; what is unknown stays text, and is refused by name."""
    module = flow_module(Bundle(served.bundle).manifest.flow)
    return from_texts((*declarations(module.Options), *declarations(module.Request)), served.options)
