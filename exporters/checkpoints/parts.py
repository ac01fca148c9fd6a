"""Which of the weights in a training file are taken: the averaged ones, or those that `--part` names.

A part is a dict of tensors by name, called by the way to it (`ema.state_dict`; `.` for the file's outermost dict), or
those keys of one dict that begin alike (`g_ema.`). Nothing is guessed: where several parts could be meant, they are
listed (docs/decisions/111).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameo.errors import CheckpointError
from exporters.checkpoints.kinds import fits, looks_like
from exporters.checkpoints.plain_numpy import PlainArray

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = ("module.model.", "module.", "_orig_mod.")
"""Prefixes that data parallelism and torch.compile put before every key."""

TOP = "."
_AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?)(?![a-z])", re.IGNORECASE)
_COUNTER = "n_averaged"  # torch.optim.swa_utils.AveragedModel writes it beside what it averages
_LISTED = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Part:
    """Tensors by name; `unnamed` of them are in a list instead, where nothing says which is which."""

    name: str
    state: dict[str, Tensor]
    averaged: bool = False
    unnamed: int = 0

    @property
    def words(self) -> str:
        """What it is called and looks like."""
        if self.unnamed:
            return f"'{self.name}' (a list of {self.unnamed} tensors without names)"
        return f"'{self.name}' ({looks_like({key: tuple(tensor.shape) for key, tensor in self.state.items()})})"

    def is_of(self, network: str) -> bool:
        """Whether it has the keys by which networks of this family are known."""
        return fits({key: tuple(tensor.shape) for key, tensor in self.state.items()}, network)


def choose(loaded: Any, path: Path, network: str, name: str = "") -> dict[str, Tensor]:
    """The tensors for `network` in what torch read from `path`: those of the part called `name`, if one is.

    Raises:
        CheckpointError: there are none, or it is not plain which are meant.
    """
    found = list(_parts(loaded, set()))
    parts = [small for part in found for small in _divided(part, network)]
    if name:
        parts = _called(name, found, parts, path)
    fitting = [part for part in parts if part.is_of(network)] or parts
    if not fitting:
        raise _nothing(loaded, path, network)
    averaged = [part for part in fitting if part.averaged]
    chosen, *rivals = averaged or fitting
    # What is averaged and cannot be told from this network's weights may well be them, in another spelling.
    unclear = [part for part in parts if part.averaged and part not in fitting and _is_unknown(part)]
    if rivals or chosen.unnamed or (unclear and not averaged):
        raise _ambiguous([chosen, *rivals] if rivals else [*fitting, *unclear], path, network)
    if chosen.averaged and (others := [f"'{part.name}'" for part in fitting if part is not chosen]):
        note = f"{path.name}: the averaged weights '{chosen.name}' are taken, not {', '.join(others)} (--part chooses)"
        log.info(note, extra={"note": note})
    return chosen.state


def no_parts(network: str, name: str) -> CheckpointError:
    """The error for a part of a checkpoint that cannot have any."""
    return CheckpointError(f"a checkpoint of {network} is a frozen graph, which has no parts: leave out --part {name}")


def _parts(value: Any, seen: set[int], name: str = TOP) -> Iterator[Part]:
    """Every dict of tensors in what was read, the outermost first; one that has several names by the first of them."""
    if id(value) in seen:
        return
    seen.add(id(value))
    averaged = bool(_AVERAGED.search(name))
    if isinstance(value, list | tuple):
        tensors = [one for one in value if _tensor(one) is not None]
        if tensors and averaged:
            yield Part(name, {}, averaged, len(tensors))
        value = {str(index): one for index, one in enumerate(value[:_LISTED]) if isinstance(one, Mapping)}
    if not isinstance(value, Mapping):
        return
    state = {key: tensor for key, one in value.items() if isinstance(key, str) and (tensor := _tensor(one)) is not None}
    averaged |= state.pop(_COUNTER, None) is not None
    if any(tensor.ndim for tensor in state.values()):
        yield Part(name, without_wrappers(state), averaged)
    for key, one in value.items():
        if isinstance(key, str):
            yield from _parts(one, seen, _join(name, key))


def _tensor(value: Any) -> Tensor | None:
    """A tensor, or an array of numbers as one."""
    import torch

    if isinstance(value, PlainArray):
        return None if value.values is None else torch.from_numpy(value.values)
    return value if isinstance(value, torch.Tensor) else None


def without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without a prefix that every key has."""
    for prefix in WRAPPERS:
        if state and all(key.startswith(prefix) for key in state):
            return without_wrappers({key.removeprefix(prefix): tensor for key, tensor in state.items()})
    return state


def _divided(part: Part, network: str) -> Iterator[Part]:
    """The part, or the parts that it consists of by what its keys begin with."""
    heads = _heads(part)
    averaged = [head for head in heads if head.averaged and not part.averaged]
    yield from averaged
    taken = tuple(f"{head.name.rpartition('.')[2]}." for head in averaged)
    rest = replace(part, state={key: tensor for key, tensor in part.state.items() if not key.startswith(taken or ())})
    if not rest.state and not rest.unnamed:
        return
    inner = [] if rest.is_of(network) else [head for head in _heads(rest) if head.is_of(network)]
    yield from inner or [rest]


def _heads(part: Part) -> list[Part]:
    """The groups of keys that have what is before their first dot in common."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in part.state.items():
        head, _, rest = key.partition(".")
        if rest:
            groups.setdefault(head, {})[rest] = tensor
    return [
        Part(_join(part.name, head), without_wrappers(state), part.averaged or bool(_AVERAGED.search(head)))
        for head, state in groups.items()
    ]


def _called(name: str, found: Sequence[Part], parts: Sequence[Part], path: Path) -> list[Part]:
    """The part of this name, or those inside it."""
    inside = [part for part in parts if part.name == name or part.name.startswith(f"{name}.")]
    exact = [part for whole in found for part in (whole, *_heads(whole)) if part.name == name]
    if not inside and not exact:
        listed = ", ".join(part.words for part in parts[:_LISTED]) or "no weights at all"
        raise CheckpointError(f"{path} has no part '{name}': it holds {listed}; choose one of these with --part")
    return inside or exact[:1]


def _join(name: str, key: str) -> str:
    return key if name == TOP else f"{name}.{key}"


def _is_unknown(part: Part) -> bool:
    return "unknown" in part.words or bool(part.unnamed)


def _ambiguous(parts: Sequence[Part], path: Path, network: str) -> CheckpointError:
    names = dict.fromkeys(part.words for part in parts)
    example = next((part.name for part in parts if part.state), parts[0].name)
    return CheckpointError(
        f"{path} does not say which of its {len(names)} sets of weights is to serve as {network}: "
        f"{', '.join(list(names)[:_LISTED])}; name one, --part {example} (in a build: --part {network}={example})"
    )


def _nothing(loaded: Any, path: Path, network: str) -> CheckpointError:
    if isinstance(loaded, Mapping) and {"state", "param_groups"} <= set(map(str, loaded)):
        return CheckpointError(f"{path} is the state of an optimizer, not the weights of {network}: name their file")
    content = ", ".join(map(str, list(loaded)[:_LISTED])) if isinstance(loaded, Mapping) else type(loaded).__name__
    return CheckpointError(
        f"{path} holds no state dict of {network} (it holds: {content or 'nothing'}): expected tensors by name, "
        "alone or in a training file's dict"
    )
