"""Checkpoints of the published shapes with random weights: full-size weights are not ours to ship.

Time and memory do not depend on the weights; fidelity is measured on activations of the size that training gives, which
the networks' own initialisers (equalised learning rate, He) see to. What they draw is noise (docs/decisions/070).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporters.recipe import Model

SAID = "random weights of the published shapes"
SEED = 0


def write_checkpoint(network: str, folder: Path, narrow: float | None = None, model: Model | None = None) -> Path:
    """The checkpoint of `network` in `folder`, written unless it is there: a file, or the folder where it has several.

    `narrow` is another width than published; the files are called as in the folder of `model`, if there is one.
    """
    from exporters import family_of, files_of

    family = family_of(network)
    names = files_of(network, model).usual
    for name in names:
        write = family.untrained_files.get(name, lambda path: _save(network, path, narrow))
        _write_once(folder / name, write)
    return folder / names[0] if len(names) == 1 else folder


def _save(network: str, path: Path, narrow: float | None) -> None:
    import torch

    from exporters import family_of

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        torch.save(family_of(network).untrained(network, narrow).state_dict(), path)


def _write_once(path: Path, write: Callable[[Path], None]) -> None:
    """Write the file unless it is there; one that is not whole never is."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    write(unfinished)
    unfinished.rename(path)
