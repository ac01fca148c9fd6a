"""ParseNet: which part of a face each pixel shows."""
