"""The command line of `make bench`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import psutil
from rich.console import Console

from bench import families
from bench.rows import failed, measured_on, table
from cameo.errors import CameoError
from pipeline.utf8 import in_utf8

console = Console(highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure the families asked for, write the tables, and return 1 if a promise does not hold."""
    known = [module.name for module in pkgutil.iter_modules(families.__path__)]
    parser = argparse.ArgumentParser(prog="bench", description="Measure every figure of docs/measurements.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(known)}; all, if none is named")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.families) - set(known))
    if unknown:
        print(f"error: there is no bench of {', '.join(unknown)}: choose of {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        held = [_measure(name, asked.out) for name in asked.families or known]
    except CameoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if all(held) else 1


def _measure(name: str, out: Path) -> bool:
    """Measure one family, write its table as NAME.md, and return whether all of its promises hold."""
    family: ModuleType = importlib.import_module(f"{families.__name__}.{name}")
    out.mkdir(parents=True, exist_ok=True)
    load, _, _ = psutil.getloadavg()  # others' slow down originals most (docs/measurements/2026-11-27-cpu-fusion.md)
    rows = family.measure(out / name, console.print)
    text = f"## {family.TITLE}\n\n{measured_on(family.LIBRARIES, load)}\n\n{table(rows)}\n"
    path = out / f"{name}.md"
    path.write_text(text)
    console.print(f"{text}\nwrote {path}")
    return not failed(rows)


if __name__ == "__main__":
    in_utf8()
    sys.exit(main())
