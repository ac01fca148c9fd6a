"""One file per model, found by its name: each has `MODELS: tuple[Model, ...]`."""
