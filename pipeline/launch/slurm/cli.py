"""What the commands of daily work share: arguments, errors in one sentence, and a table of text."""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from pipeline.errors import PipelineError

_GAP = "  "
_LEAST_WIDTH = 20  # of a last column that is cut to the terminal


def run_command(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int]) -> None:
    """Read the command line, do the work, and end with its exit code; a user's error is one line.

    Args:
        parser: of the command line.
        work: arguments -> exit code.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        code = work(parser.parse_args())
        sys.stdout.flush()
    except PipelineError as error:
        logging.error("%s: %s", type(error).__name__, error)
        code = 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def say(line: str) -> None:
    """Write a line of a command's answer to standard output."""
    sys.stdout.write(f"{line}\n")


def text_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> list[str]:
    """Return a table as lines; on a terminal the last column is cut to its width.

    Args:
        headings: of the columns; those in which no row says anything are left out.
        rows: a text for each column.
        right: headings of columns of numbers.
    """
    kept = [index for index in range(len(headings)) if any(row[index] for row in rows)]
    table = [[headings[index] for index in kept], *([row[index] for index in kept] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(kept))]
    most = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    spare = most - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    lines = []
    for row in table:
        cells = [
            text.rjust(width) if headings[index] in right else text.ljust(width)
            for index, text, width in zip(kept, row, widths, strict=True)
        ]
        if cells:
            cells[-1] = cells[-1][: max(spare, _LEAST_WIDTH)]
        lines.append(_GAP.join(cells).rstrip())
    return lines
