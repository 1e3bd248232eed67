"""A process that has imported the program, and becomes the next call of it; see handover.py.

Each call gets a copy of this process (a fork), with the caller's streams, folder, environment and
arguments: from there on it is the call, and nothing in it differs but where it came from. Torch is
not imported: threads would not live through the copying.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

from . import handover, runtime
from .handover import LENGTH, STREAMS


@contextlib.contextmanager
def standing_by(path: str) -> Iterator[None]:
    """A process behind a socket at this path that makes calls; it ends with this one."""
    process = subprocess.Popen(
        runtime.python("from janus_cli.standby import stand_by; stand_by(sys.argv[1])", path),
        stdin=subprocess.PIPE,  # closed when this process ends, however it does
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C here is not meant for calls from elsewhere
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def stand_by(path: str) -> None:
    """Make calls until standard input ends."""
    warnings.simplefilter("ignore")
    _import_program()
    gc.freeze()  # what is never written to is never copied
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for the copies
    with runtime.listen(path) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            if any(key.fileobj == 0 for key, _ in selector.select()):
                return
            with contextlib.suppress(OSError):  # too many files or processes, for the moment
                connection, _ = listener.accept()
                if os.fork() == 0:
                    break
                connection.close()
    with connection:
        _attend(connection)


def _import_program() -> None:
    """Import what a call that a warm model answers takes, on a terminal, too."""
    import tempfile  # noqa: F401

    from rich import console, progress  # noqa: F401

    from . import answers, client, dispatch, pictures  # noqa: F401
    from .cli import build

    build([])
    runtime.folder()


def _attend(connection: socket.socket) -> None:
    """Have a further copy make the call that comes over the connection, and stand between the two:
    the caller's signals go in, the copy's numbers out, and neither outlives the other. Only so can
    a call be paused whose caller may then be gone.
    """
    if not runtime.is_own(connection):
        return
    length, streams, _, _ = socket.recv_fds(connection, LENGTH, len(STREAMS) + 1)
    data = connection.makefile("rb").read(int.from_bytes(length, "big"))
    call = json.loads(data)
    if call["identity"] != handover.identity():
        return
    reading, writing = os.pipe()
    copy = os.fork()
    if copy == 0:
        connection.close()
        os.close(reading)
        _make(call, streams, writing)
        return
    for descriptor in (*streams, writing):
        os.close(descriptor)
    with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
        selector.register(connection, selectors.EVENT_READ)
        selector.register(reading, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if reading in ready:
                numbers = os.read(reading, 1024)
                if not numbers:
                    return
                connection.sendall(numbers)
            elif number := connection.recv(1):
                os.kill(copy, number[0])
            else:  # the caller is gone
                os.kill(copy, signal.SIGCONT)
                os.kill(copy, signal.SIGTERM)
                return


def _make(call: dict[str, Any], streams: list[int], pipe: int) -> None:
    """Make a call in this process; its exit code goes into the pipe."""
    nothing = os.open(os.devnull, os.O_RDWR)
    _take_over(call, streams)
    _tell(pipe, handover.ACCEPTED)
    from .__main__ import run

    code = run(call["arguments"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the caller goes away now
    for number in STREAMS:  # whoever reads them learns that all has been written
        os.dup2(nothing, number)
    _tell(pipe, code)


def _take_over(call: dict[str, Any], streams: list[int]) -> None:
    """Make this process the caller in all that a call can notice; its streams come last, since
    nothing that goes wrong here is for their readers."""
    import resource  # which not every system has

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    *standard, folder = streams
    os.fchdir(folder)
    os.close(folder)
    os.umask(call["umask"])
    os.nice(max(0, call["niceness"] - os.nice(0)))
    if call["processors"]:
        os.sched_setaffinity(0, call["processors"])
    os.environ.clear()
    os.environ.update(call["environment"])
    time.tzset()
    sys.argv[1:] = call["arguments"]
    for number, descriptor in zip(STREAMS, standard, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    made = [_open(n, *encoding) for n, encoding in zip(STREAMS, call["encodings"], strict=True)]
    sys.stdin, sys.stdout, sys.stderr = made
    for limit, *values in call["limits"]:
        with contextlib.suppress(OSError, ValueError):  # it may be lower here, and stays so
            resource.setrlimit(limit, values)


def _open(number: int, encoding: str, errors: str) -> io.TextIOWrapper:
    """A standard stream as the interpreter opens it."""
    mode = "rb" if number == 0 else "wb"
    buffer = open(number, mode, closefd=False)  # noqa: SIM115 - open as long as the process is
    by_line = number == 2 or buffer.isatty()
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=by_line)


def _tell(pipe: int, number: int) -> None:
    with contextlib.suppress(OSError):  # the caller is gone
        os.write(pipe, number.to_bytes(8, sys.byteorder, signed=True))
