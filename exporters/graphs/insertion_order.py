"""Lets tf2onnx go through its sets in the order in which they were filled, so that one graph gives one file.

tf2onnx keeps the consumers of a tensor in a `set` of names and picks from it: which of two equal constants stays, what
is renamed first. The order of a set of strings follows Python's hash seed, which differs from process to process. It
also numbers the names that it makes up through a counter of the process (docs/decisions/115).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


class InsertionOrdered(MutableSet[Any]):
    """A set that goes through its items in the order in which they came."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[value] = None

    def discard(self, value: Any) -> None:
        self._items.pop(value, None)

    # What `set` has and its abstract class lacks, as far as tf2onnx calls it.

    def union(self, other: Iterable[Any]) -> InsertionOrdered:
        return InsertionOrdered([*self, *other])

    def intersection(self, other: Iterable[Any]) -> InsertionOrdered:
        others = InsertionOrdered(other)
        return InsertionOrdered(item for item in self if item in others)

    def issubset(self, other: Iterable[Any]) -> bool:
        return self <= InsertionOrdered(other)


@contextmanager
def insertion_order() -> Iterator[None]:
    """Within it, tf2onnx gives the same graph in every process, and names counted from the start."""
    from tf2onnx import graph, utils
    from tf2onnx.optimizer import back_to_back_optimizer

    with ExitStack() as patches:
        for module in (graph, back_to_back_optimizer):  # the two that read an order off a set
            patches.enter_context(mock.patch.object(module, "set", InsertionOrdered, create=True))
        patches.enter_context(mock.patch.object(utils, "INTERNAL_NAME", 1))
        yield
