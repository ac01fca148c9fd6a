"""What families share on the way out: torch modules as ONNX, uint8 edges, and torch originals behind them."""

OPSET = 18
"""ONNX opset of every exported graph: new enough for all engines, old enough for each of their parsers."""
