"""A call handed to a process that stands by with everything imported; see standby.py.

Importing the program takes several times as long as a warm model takes to answer. So this half
imports next to nothing: it sends what makes up the call, passes signals on, and waits.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import sys
from types import FrameType

from . import __version__, runtime
from .errors import ExitCode, ModelError

COMMANDS = ("describe", "ask", "ocr", "imagine")
OF_THIS_PROCESS = ("/dev/", "/proc/")  # files that mean something else to another process
NEEDS_ITS_OWN = ("--ray",)
PASSED_ON = (signal.SIGINT, signal.SIGTERM)
STREAMS = (0, 1, 2)
LENGTH = 8  # bytes of the number before the call


def hand_over(arguments: list[str]) -> int | None:
    """The exit code of a call, or None where nobody stands by who could make it."""
    if not _can_be_handed_over(arguments):
        return None
    try:
        for connection in runtime.connect(runtime.STANDBY):
            child = _introduce(connection, arguments)
            if child is not None:
                return _attend(connection, child)
    except (ModelError, OSError):
        return None  # the call is made here, as if nobody stood by
    return None


def identity() -> list[str]:
    """What two processes must have in common for one to make the calls of the other."""
    return [__version__, __file__, sys.executable, sys.getfilesystemencoding()]


def _can_be_handed_over(arguments: list[str]) -> bool:
    if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
        return False
    if not arguments or arguments[0] not in COMMANDS or None in (sys.stdin, sys.stdout, sys.stderr):
        return False
    if any(name in os.environ for name in ("JANUS_DEBUG", "_JANUS_COMPLETE")):
        return False
    return not any(
        argument in NEEDS_ITS_OWN or any(place in argument for place in OF_THIS_PROCESS)
        for argument in arguments
    )


def _introduce(connection: socket.socket, arguments: list[str]) -> int | None:
    """Send the call; the number of the process that makes it, or None where it is refused."""
    import resource

    call = {
        "identity": identity(),
        "arguments": arguments,
        "environment": dict(os.environ),
        "encodings": [[s.encoding, s.errors] for s in (sys.stdin, sys.stdout, sys.stderr)],
        "umask": _umask(),
        "niceness": os.nice(0),
        "limits": [
            [number, *resource.getrlimit(number)]
            for name, number in vars(resource).items()
            if name.startswith("RLIMIT_")
        ],
    }
    data = json.dumps(call).encode()
    folder = os.open(".", os.O_RDONLY)
    try:
        socket.send_fds(connection, [len(data).to_bytes(LENGTH, "big")], [*STREAMS, folder])
        connection.sendall(data)
    finally:
        os.close(folder)
    reply = _read_number(connection)
    return reply or None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _attend(connection: socket.socket, child: int) -> int:
    """Wait for the exit code; what this process is told by signals, the child is told, too."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            connection.sendall(bytes([number]))

    def pause(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # returns when this process is continued
            signal.signal(signal.SIGTSTP, pause)
            os.kill(child, signal.SIGCONT)

    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.signal(signal.SIGTSTP, pause)
    code = _read_number(connection)
    if code is None:
        sys.stderr.write("janus: the process that made this call was killed; run it again\n")
        return ExitCode.INTERNAL
    return code


def _read_number(connection: socket.socket) -> int | None:
    """The next number from the other side, or None where there comes none."""
    data = b""
    numbers = array.array("q")
    while len(data) < numbers.itemsize:
        part = connection.recv(numbers.itemsize - len(data))
        if not part:
            return None
        data += part
    numbers.frombytes(data)
    return numbers[0]
