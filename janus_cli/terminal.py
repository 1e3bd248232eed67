"""The user's two streams: how text gets onto them safely. Knows nothing of requests and models."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from .errors import OutputError

# What a terminal obeys instead of showing it: C0 without tab and newline, DEL and C1, the marks and
# overrides of writing direction; and the lone surrogates that stand for undecodable bytes.
CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
SURROGATES = r"\ud800-\udfff"
UNSAFE = re.compile(f"[{CONTROLS}{SURROGATES}]")
UNSAFE_IN_A_LINE = re.compile(f"[{CONTROLS}{SURROGATES}\\t\\n\\u2028\\u2029]")
# json.dumps escapes C0 by itself.
JSON_CONTROLS = r"\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
UNSAFE_IN_JSON = re.compile(f"[{JSON_CONTROLS}{SURROGATES}]")


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
    write(json_line(record))


def json_line(record: dict[str, Any]) -> str:
    """One JSON object as one line, safe to be shown."""
    encoding = (sys.stdout and sys.stdout.encoding) or "utf-8"
    line = json.dumps(record, ensure_ascii=not encoding.lower().startswith("utf"))
    return UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", line) + "\n"


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
