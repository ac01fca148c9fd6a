"""From photo to photo: one file per model, each with a function `open_flow(sessions, assets, options)`."""
