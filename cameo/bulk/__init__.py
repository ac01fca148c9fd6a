"""Photos in, pictures out: `cameo run` and `fuse` use the first two, `cameo batch` all (docs/decisions/202).

photos        which photos, and where each result goes
making        the picture of one photo: read, run, written
journal       what is done, so that a run that was killed goes on where it was
running       several photos in flight: read, run, written, noted
results       results.csv and results.json
"""
