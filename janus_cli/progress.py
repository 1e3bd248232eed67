"""One line of progress on standard error, with a rate and the time that is left."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .terminal import is_terminal, one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PATIENCE = 0.5  # seconds of silence before progress is shown


class Pace:
    """How fast one kind of work has gone since it began."""

    def __init__(self, done: int = 0, *, counted: bool = False) -> None:
        self._begun = time.monotonic()
        self._before = done
        self._counted = counted

    def in_words(self, done: int, total: int) -> str:
        """`12 of 1000, 3.1 a second, 5 min left`, as far as it is known."""
        seconds = time.monotonic() - self._begun
        if done <= self._before or done >= total or seconds <= 0:
            return ""
        rate = (done - self._before) / seconds
        left = f"{in_words((total - done) / rate)} left"
        if not self._counted:
            return left
        speed = f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
        return f"{done} of {total}, {speed}, {left}"


def in_words(seconds: float) -> str:
    """A time as people say it: 40 s, 5 min, 2 h 10 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class ProgressLine:
    """One line of progress on standard error: only for a terminal, only when it takes long."""

    def __init__(self, label: str, *, in_bytes: bool = False) -> None:
        self._in_bytes = in_bytes
        self._state = (label, 0, 0)
        self._pace = Pace()
        self._begun = time.monotonic()
        self._bar: Bar | None = None
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._watched = is_terminal(sys.stderr)

    def __enter__(self) -> ProgressLine:
        if self._watched:
            self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()
        self._watched = False

    def show(self, label: str, done: int = 0, total: int = 0, *, counted: bool = False) -> None:
        """Say what is going on; a total of 0 means that nobody knows how long it takes, `counted`
        that the label names what `done` counts."""
        with self._lock:
            if label != self._state[0]:
                self._pace = Pace(done, counted=counted)
            self._state = (label, done, total)
            if not self._watched:
                return
            if time.monotonic() - self._begun >= PATIENCE:
                self._draw()
            elif self._timer is None:  # hidden early; whatever is silent after this is shown too
                self._wait()

    def hide(self) -> None:
        """Clear the line, so that something else can be written; `show` brings it back."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def _wait(self) -> None:
        left = self._begun + PATIENCE - time.monotonic()
        self._timer = threading.Timer(max(0, left), self._lose_patience)
        self._timer.daemon = True
        self._timer.start()

    def _lose_patience(self) -> None:
        with self._lock:
            if self._timer is not None:  # else the line was hidden just now
                self._draw()

    def _draw(self) -> None:
        label, done, total = self._state
        pace = self._pace.in_words(done, total)
        shown: dict[str, Any] = {"completed": done, "total": total or None, "pace": pace}
        if self._bar is None:
            self._bar = _new_bar(self._in_bytes)
            self._bar.add_task(one_line(label), **shown)
            self._bar.start()
        else:
            self._bar.update(self._bar.task_ids[0], description=one_line(label), **shown)


def _new_bar(in_bytes: bool) -> Bar:
    """The line as rich draws it; of bytes it also says how many, and how long they still take."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    console.width -= len("^C") + 1  # which the terminal writes behind the line at an interrupt
    pace = progress.TextColumn("{task.fields[pace]}", markup=False)
    amount = [progress.DownloadColumn(), progress.TimeRemainingColumn()] if in_bytes else [pace]
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=None if in_bytes else 40),  # None: what room there is
        progress.TaskProgressColumn(),
        *amount,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
