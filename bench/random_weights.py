"""Checkpoints of the published shapes with random weights: full-size weights are not ours to ship.

Time and memory do not depend on the weights; fidelity is measured on activations of the size that training gives, which
the networks' own initialisers (equalised learning rate, He) see to. What they draw is noise (docs/decisions/070).
"""

from __future__ import annotations

from pathlib import Path

SAID = "random weights of the published shapes"
SEED = 0


def write_checkpoint(network: str, folder: Path, narrow: float | None = None) -> Path:
    """The checkpoint of `network` in `folder`, written unless it is there; `narrow` is another width than published."""
    import torch

    from exporters import family_of

    family = family_of(network)
    path = folder / family.networks[network].usual[0]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            state = family.untrained(network, narrow).state_dict()
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.rename(path)
    return path
