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
ON_A_TERMINAL = ("--chat", "-")  # what is read there must be the shell's to stop
NAMESPACES = ("mnt", "pid", "net")
STREAMS = (0, 1, 2)
LENGTH = 8  # bytes of the number before the call
ACCEPTED = 1  # the number before the exit code


def hand_over(arguments: list[str]) -> int | None:
    """The exit code of a call, or None where nobody stands by who could make it."""
    if not _can_be_handed_over(arguments):
        return None
    try:
        for connection in runtime.connect(runtime.STANDBY):
            if _introduce(connection, arguments):
                return _attend(connection)
    except (ModelError, OSError):
        return None  # the call is made here, as if nobody stood by
    return None


def identity() -> list[object]:
    """What two processes must have in common for one to make the calls of the other: the program,
    and what files and names mean to them."""
    program = [__version__, __file__, sys.executable, sys.getfilesystemencoding()]
    root = os.stat("/")
    user = [os.geteuid(), os.getegid(), sorted(os.getgroups()), root.st_dev, root.st_ino]
    spaces = []
    for name in NAMESPACES:
        with contextlib.suppress(OSError):  # a system without them
            spaces.append(os.readlink(f"/proc/self/ns/{name}"))
    return [*program, *user, *spaces]


def _can_be_handed_over(arguments: list[str]) -> bool:
    if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
        return False
    if not arguments or arguments[0] not in COMMANDS or None in (sys.stdin, sys.stdout, sys.stderr):
        return False
    if any(name in os.environ for name in ("JANUS_DEBUG", "_JANUS_COMPLETE")):
        return False
    if sys.stdin.isatty() and any(argument in ON_A_TERMINAL for argument in arguments):
        return False
    return not any(
        argument in NEEDS_ITS_OWN or any(place in argument for place in OF_THIS_PROCESS)
        for argument in arguments
    )


def _introduce(connection: socket.socket, arguments: list[str]) -> bool:
    """Send the call; whether it is being made."""
    import resource

    call = {
        "identity": identity(),
        "arguments": arguments,
        "environment": dict(os.environ),
        "encodings": [[s.encoding, s.errors] for s in (sys.stdin, sys.stdout, sys.stderr)],
        "umask": _umask(),
        "niceness": os.nice(0),
        "processors": sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [],
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
    return _read_number(connection) == ACCEPTED


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _attend(connection: socket.socket) -> int:
    """Wait for the exit code; what this process is told by signals, the call is told, too."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            connection.sendall(bytes([number]))

    def pause(number: int, frame: FrameType | None) -> None:
        pass_on(signal.SIGSTOP, frame)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when this process is continued
        signal.signal(signal.SIGTSTP, pause)
        pass_on(signal.SIGCONT, frame)

    signal.signal(signal.SIGTERM, pass_on)
    for number, handler in ((signal.SIGINT, pass_on), (signal.SIGTSTP, pause)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
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
        try:
            part = connection.recv(numbers.itemsize - len(data))
        except ConnectionError:  # it went away with a signal of ours unread
            return None
        if not part:
            return None
        data += part
    numbers.frombytes(data)
    return numbers[0]
