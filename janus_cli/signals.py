"""Ctrl-C and SIGTERM at a better moment. Knows neither what they lead to nor who is in the way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Have signals wait until the end of the block; a second one is obeyed at once."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        handler = handlers[signal.Signals(number)]
        if len(came) > 1 and callable(handler):
            handler(number, frame)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    except SystemExit:  # of a handler that was put in the place of ours
        came.append(signal.SIGTERM)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
