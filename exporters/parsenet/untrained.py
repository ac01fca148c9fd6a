"""ParseNet with the weights that training starts from."""

from __future__ import annotations

from exporters.parsenet.network import ParseNet


def untrained(network: str, narrow: float | None = None) -> ParseNet:
    """The network of the published shapes; it has one width."""
    return ParseNet()
