"""The user's two streams: how text gets onto them safely. Knows nothing of requests and models."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .errors import OutputError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

# What a terminal obeys instead of showing it: C0 without tab and newline, DEL and C1, the marks and
# overrides of writing direction; and the lone surrogates that stand for undecodable bytes.
CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
SURROGATES = r"\ud800-\udfff"
UNSAFE = re.compile(f"[{CONTROLS}{SURROGATES}]")
UNSAFE_IN_A_LINE = re.compile(f"[{CONTROLS}{SURROGATES}\\t\\n\\u2028\\u2029]")
# json.dumps escapes C0 by itself.
JSON_CONTROLS = r"\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
UNSAFE_IN_JSON = re.compile(f"[{JSON_CONTROLS}{SURROGATES}]")

PATIENCE = 0.5  # seconds of silence before progress is shown


def visible(text: str) -> str:
    """The text with every control character but newline and tab spelled out, as in \\x1b."""
    return UNSAFE.sub(_spelled_out, text)


def one_line(text: str) -> str:
    """The text as one line, for messages and prefixes."""
    return UNSAFE_IN_A_LINE.sub(_spelled_out, text)


def _spelled_out(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # how Python carries an undecodable byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def write(text: str) -> None:
    """Write to standard output and flush; BrokenPipeError flies on to main()."""
    if sys.stdout is None:
        raise OutputError("standard output: is closed")
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from error


def write_json(record: dict[str, Any]) -> None:
    """Write one JSON object as one line."""
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    ascii_only = not encoding.lower().startswith("utf")
    line = json.dumps(record, ensure_ascii=ascii_only)
    write(UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", line) + "\n")


def write_path(path: str) -> None:
    """Write a path as one line: its own bytes for a script, spelled out for a terminal."""
    if sys.stdout is None or sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        write(one_line(path) + "\n")
        return
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from error


def say(message: str) -> None:
    """Say one line to the user, on standard error."""
    if sys.stderr is not None:
        text = f"janus: {one_line(message)}\n"
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stderr.flush()


def confirm(question: str) -> bool:
    """Ask on standard error, where somebody is there to answer; yes only for a clear yes."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return False
    sys.stderr.write(f"janus: {one_line(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def is_terminal(stream: Any) -> bool:
    """Whether somebody watches the stream."""
    return stream is not None and stream.isatty()


class ProgressLine:
    """One line of progress on standard error: only for a terminal, only when it takes long."""

    def __init__(self, label: str, *, in_bytes: bool = False) -> None:
        self._in_bytes = in_bytes
        self._state = (label, 0, 0)
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

    def show(self, label: str, done: int = 0, total: int = 0) -> None:
        """Say what is going on; a total of 0 means that nobody knows how long it takes."""
        with self._lock:
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
        label = one_line(label)
        if self._bar is None:
            self._bar = _new_bar(self._in_bytes)
            self._bar.add_task(label, completed=done, total=total or None)
            self._bar.start()
        else:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=label, completed=done, total=total or None)


def _new_bar(in_bytes: bool) -> Bar:
    """The line as rich draws it; of bytes it also says how many, and how long they still take."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    console.width -= len("^C") + 1  # which the terminal writes behind the line at an interrupt
    amount = [progress.DownloadColumn(), progress.TimeRemainingColumn()] if in_bytes else []
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
