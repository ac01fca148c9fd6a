"""RetinaFace with the weights that training starts from."""

from __future__ import annotations

from exporters.retinaface.network import RetinaFace


def untrained(network: str, narrow: float | None = None) -> RetinaFace:
    """The network of the published shapes; it has one width."""
    return RetinaFace()
