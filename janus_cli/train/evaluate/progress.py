"""One line of progress of a long measurement, on a terminal only."""

from __future__ import annotations

import sys


def show(label: str, done: int = 0, total: int = 0) -> None:
    """Say how far something is; an empty label wipes the line."""
    if sys.stderr.isatty():
        line = f"{label} {done} of {total}" if label else ""
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
