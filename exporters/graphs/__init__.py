"""What families share on the way out: torch modules as ONNX, uint8 edges, and torch originals behind them."""
