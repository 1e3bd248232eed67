"""Where warm models are met: sockets in a folder that belongs to the user alone."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

from .errors import ModelError, UsageError

SECONDS = {"s": 1, "m": 60, "h": 3600}
WARM, STANDBY = ".sock", ".call"
"""How the names of sockets end: of those that answer requests, and those that make calls."""
LONGEST = 100  # bytes of a socket's path; systems allow 104 or 108


def folder() -> Path:
    """The folder of the sockets, made if need be.

    Raises:
        ModelError: others may write into it, or it cannot be made.
    """
    if not hasattr(os, "getuid"):
        raise ModelError("models stay warm behind Unix sockets, which this system does not have")
    usual = Path(os.environ.get("XDG_RUNTIME_DIR", ""), "janus")
    if sys.platform == "linux" and usual.is_absolute() and _is_ours_alone(usual):
        return usual  # the library takes a tenth of a warm call to import
    from platformdirs import user_runtime_path

    place = user_runtime_path("janus", appauthor=False)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"{place}: cannot be made: {error.strerror}; set XDG_RUNTIME_DIR"
        ) from error
    if not _is_ours_alone(place):
        raise ModelError(
            f"{place}: is not a folder of yours alone; remove it, or set XDG_RUNTIME_DIR"
        )
    return place


def _is_ours_alone(place: Path) -> bool:
    """Whether this is a folder, and no link to one, that nobody else can look into."""
    try:
        status = place.lstat()
    except OSError:
        return False
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return ours and not status.st_mode & 0o077


def python(code: str, *arguments: str) -> list[str]:
    """A command that runs code of this program in a process of its own.

    It imports from where this process does. `python -m` would look into the present folder first,
    which may be anybody's.
    """
    places = [place for place in sys.path if place]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {places!r}; {code}", *arguments]


def seconds_of(time: str) -> float:
    """A time such as 90, 90s, 10m or 2h, in seconds.

    Raises:
        UsageError: it is none.
    """
    number, unit = (time[:-1], time[-1:]) if time[-1:] in SECONDS else (time, "s")
    try:
        seconds = float(number) * SECONDS[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < inf:
        raise UsageError(f"--keep-alive: {time!r} is no time; write 30s, 10m or 2h")
    return seconds


def socket_path(place: Path, number: int, ending: str = WARM) -> str:
    """The name of the socket of a process."""
    path = str(place / f"{number}{ending}")
    if len(os.fsencode(path)) > LONGEST:
        raise ModelError(f"{path}: is too long for a socket; set XDG_RUNTIME_DIR to a short path")
    return path


@contextlib.contextmanager
def listen(path: str) -> Iterator[socket.socket]:
    """A socket that only this user can open; in the end it is gone."""
    owner = os.getpid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        try:
            listener.listen(128)
            yield listener
        finally:
            if os.getpid() == owner:  # and not a copy of it
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


def connect(ending: str = WARM) -> Iterator[socket.socket]:
    """A connection to every process of this user behind a socket so named; a socket that nobody
    serves is removed."""
    for path in sorted(folder().glob(f"*{ending}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(str(path))
            except ConnectionRefusedError:  # its server is gone without a farewell
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            except OSError:
                continue
            if is_own(connection):
                yield connection


def is_own(connection: socket.socket) -> bool:
    """Whether the same user is at the other end; where the system does not tell, the folder and the
    mode of the socket have kept others out."""
    kind = getattr(socket, "SO_PEERCRED", None)
    if kind is None:
        return True
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, kind, size))
    return bool(user == os.getuid())
