"""Imports what passes over graphs need, and forks for each that is to be run.

    python -m pipeline.zygote SOCKET

is started by `pipeline/processes.py`, and ends with it. A request is a folder, an environment and the arguments of
`pipeline.child`, with the file descriptors for its output and its answer. What it is told is the new process, and when
that has ended, `os.wait4`'s status and memory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

from pipeline import child
from pipeline.processes import LARGEST_REQUEST

_IMPORTED = ("pydantic", "onnx", "onnx.checker", "onnx_ir", "onnx_ir.passes.common")


def main(descriptor: str) -> None:
    """Serve requests until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts a build means the stage
    # From Python 3.12 on, of threads that it sees: they are OpenBLAS's, which are made for it
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    for name in _IMPORTED:
        with suppress(ImportError):  # a stage says it better
            import_module(name)
    with socket.socket(fileno=int(descriptor)) as asked:
        while True:
            request, descriptors, _, _ = socket.recv_fds(asked, LARGEST_REQUEST, 2)
            if not request:
                return
            pid = os.fork()
            if pid == 0:
                asked.close()
                _become(*json.loads(request), *descriptors)
            for one in descriptors:
                os.close(one)
            asked.send(json.dumps([pid]).encode())
            _, status, usage = os.wait4(pid, 0)
            asked.send(json.dumps([status, usage.ru_maxrss]).encode())


def _become(folder: str, environment: Mapping[str, str], stage: Sequence[str], output: int, answers: int) -> NoReturn:
    """Be `python -m pipeline.child STAGE...`, started in a folder."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(output, sys.stdout.fileno())
        os.dup2(output, sys.stderr.fileno())
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        name, parameters, source, out = stage
        code = child.main(name, parameters, source, out, str(answers))
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):  # the log may lie on a full disk
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
