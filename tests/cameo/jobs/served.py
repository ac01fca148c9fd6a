"""A server that keeps jobs, as a process: `python -m tests.cameo.jobs.served FOLDER SECONDS`, of each photo."""

from __future__ import annotations

import sys
from pathlib import Path

from cameo.jobs.job import JobOptions
from cameo.server import ServeOptions, serve
from cameo.workers.calls import Served
from tests.support.served import Model, bundle_of, in_process

if __name__ == "__main__":
    options = ServeOptions(jobs=JobOptions(Path(sys.argv[1]), spare_mib=0))
    with bundle_of(Model(float(sys.argv[2]))) as folder:
        models = [Served("test", folder)]
        serve(models, lambda: in_process(models, options), options, "127.0.0.1", 0)
