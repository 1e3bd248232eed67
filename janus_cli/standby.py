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
import threading
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
        [sys.executable, "-m", __name__, path],
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
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                os.dup2(connection.detach(), 3)
                break
            connection.close()
    _become(socket.socket(fileno=3))


def _import_program() -> None:
    """Import what a call that a warm model answers takes, on a terminal, too."""
    import tempfile  # noqa: F401

    from rich import console, progress  # noqa: F401

    from . import answers, client, dispatch, pictures  # noqa: F401
    from .cli import build

    build([])
    runtime.folder()


def _become(connection: socket.socket) -> None:
    """Make the call that comes over the connection, and tell its exit code."""
    if not runtime.is_own(connection):
        return
    length, streams, _, _ = socket.recv_fds(connection, LENGTH, len(STREAMS) + 1)
    stream = connection.makefile("rb")
    call = json.loads(stream.read(int.from_bytes(length, "big")))
    if call["identity"] != handover.identity():
        _tell(connection, 0)
        return
    _take_over(call, streams)
    _tell(connection, os.getpid())
    threading.Thread(target=_listen, args=(connection,), daemon=True).start()
    from .__main__ import run

    code = run(call["arguments"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the caller goes away now
    for stream_number in STREAMS:  # whoever reads them learns that all has been written
        os.dup2(os.open(os.devnull, os.O_RDWR), stream_number)
    _tell(connection, code)


def _take_over(call: dict[str, Any], streams: list[int]) -> None:
    """Make this process the caller in all that a call can notice."""
    import resource  # which not every system has

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    *standard, folder = streams
    for number, descriptor in zip(STREAMS, standard, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.fchdir(folder)
    os.close(folder)
    for limit, *values in call["limits"]:
        with contextlib.suppress(OSError, ValueError):  # it may be lower here, and stays so
            resource.setrlimit(limit, values)
    os.umask(call["umask"])
    os.nice(max(0, call["niceness"] - os.nice(0)))
    os.environ.clear()
    os.environ.update(call["environment"])
    time.tzset()
    sys.argv[1:] = call["arguments"]
    made = [_open(n, *encoding) for n, encoding in zip(STREAMS, call["encodings"], strict=True)]
    sys.stdin, sys.stdout, sys.stderr = made


def _open(number: int, encoding: str, errors: str) -> io.TextIOWrapper:
    """A standard stream as the interpreter opens it."""
    mode = "rb" if number == 0 else "wb"
    buffer = open(number, mode, closefd=False)  # noqa: SIM115 - open as long as the process is
    by_line = number == 2 or buffer.isatty()
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=by_line)


def _listen(connection: socket.socket) -> None:
    """Raise the signals that the caller passes on; one that is gone wants the call to end."""
    with contextlib.suppress(OSError):
        for number in iter(lambda: connection.recv(1), b""):
            # To the main thread, so that whatever it waits for is broken off.
            signal.pthread_kill(threading.main_thread().ident or 0, number[0])
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # the caller is gone
        connection.sendall(number.to_bytes(8, sys.byteorder, signed=True))


if __name__ == "__main__":
    stand_by(sys.argv[1])
