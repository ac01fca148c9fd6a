"""The entry of the `cameo` command; `cameo/command_line` has the commands. By argparse, which comes with Python
(docs/decisions/006)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cameo import __version__
from cameo.any_locale import print_anything
from cameo.command_line import command, command_names
from cameo.command_line._words import in_flags
from cameo.errors import CameoError, RequestError
from cameo.log_lines import JSON, error_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; our own errors become one sentence and exit code 1 (usage: 2)."""
    print_anything()
    parsed = _parsed(arguments)
    try:
        return command(parsed.command).run(parsed)
    except CameoError as error:
        if parsed.debug:
            raise
        said = in_flags(str(error), parsed)
        as_json = getattr(parsed, "log", "") == JSON  # as every other line that a server writes there
        print(error_line(said) if as_json else f"error: {said}", file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command; it exits with usage 2, the command's own, where they are wrong."""
    parser = argparse.ArgumentParser("cameo", description="Serve portrait models from lean engines.")
    parser.add_argument("--version", action="version", version=f"cameo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name in command_names():
        module = command(name)
        one = commands.add_parser(name, help=module.HELP)
        one.add_argument("--debug", action="store_true", help="show tracebacks")
        module.add_arguments(one)
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        commands.choices[parsed.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    return parsed


if __name__ == "__main__":
    sys.exit(main())
