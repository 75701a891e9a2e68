"""The ``compress`` command: parse, call one function, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from compress.cli.parser import make_parser
from compress.errors import CompressError

USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 without a result, 2 for a user's mistake."""
    arguments = make_parser().parse_args(argv)
    arguments.words = list(sys.argv[1:] if argv is None else argv)  # for reports
    try:
        from compress.cli import commands  # after parsing: --help needs nothing else

        code: int = getattr(commands, arguments.run)(arguments)
        sys.stdout.flush()
        return code
    except CompressError as error:
        if arguments.debug:
            raise
        line = " ".join(str(error).split())
        print(f"compress {arguments.command}: error: {line}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:  # `compress spaces | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"compress {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if arguments.debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"compress {arguments.command}: error: {where}{error.strerror or error}",
            file=sys.stderr,
        )
        return USER_ERROR
