"""What an engine gives up for speed and memory."""

MODES = ("quality", "balanced", "fast")
"""Nothing that shows; a little (INT8, pruned); more (a student)."""
