"""Files that appear whole or not at all, and files that grow by whole records."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from .errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: two runs over one file are not told apart
    fcntl = None  # type: ignore[assignment]


def write_whole(path: str, data: bytes, *, force: bool) -> None:
    """Write a file aside, then give it its name in one step; its folder is made if need be.

    Raises:
        OutputError: it cannot be written, or exists and `force` does not allow to replace it.
    """
    with errors_named(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with name_aside(path) as aside:
            with open(aside, "xb") as file:
                file.write(data)
            give_name(aside, path, force=force)


@contextlib.contextmanager
def name_aside(path: str) -> Iterator[str]:
    """A free name in the folder of `path`; what lies there in the end is removed."""
    name = f".janus-{os.getpid()}-{os.urandom(4).hex()}.tmp"
    aside = os.path.join(os.path.dirname(path), name)
    try:
        yield aside
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


def give_name(aside: str, path: str, *, force: bool) -> None:
    """Give a file its name; without `force` only if that is free, whoever else may want it."""
    if force:
        os.replace(aside, path)
        return
    try:
        os.link(aside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name first
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(aside, path)
        except OSError:
            os.unlink(path)
            raise


@contextlib.contextmanager
def errors_named(path: str) -> Iterator[None]:
    """What the system says about a file that is written, as an OutputError."""
    try:
        yield
    except FileExistsError:
        raise OutputError(f"{path}: exists; use --force or another name") from None
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path}: cannot be written: {reason}; choose another place") from error


def refuse_inputs(paths: Iterable[str], inputs: Iterable[str]) -> None:
    """Raise an OutputError if an output is the same file as an input."""
    taken = {identity for name in inputs if (identity := _identity(name))}
    for path in paths:
        if _identity(path) in taken:
            raise OutputError(f"{path}: is one of the pictures; choose another name")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


class Log:
    """A file that grows by whole records and that no other run writes meanwhile."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._outdated = False

    @classmethod
    def open(cls, path: str) -> Log:
        """Open a file at its end, made if need be; OutputError if another run writes it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        with errors_named(path):
            while True:
                descriptor = os.open(path, flags, 0o666)
                lock(descriptor, path)
                if _identity(path) == _identity_of(descriptor):
                    return cls(path, descriptor)
                os.close(descriptor)  # another run has put a new file in its place

    def read(self) -> bytes:
        """All that it holds."""
        with open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    def write(self, text: str) -> None:
        """Add a record; where that fails, nothing of it is left."""
        data = text.encode("utf-8", "backslashreplace")
        if self._outdated:
            self.replace(data)
        else:
            self._add(data)

    def start_over(self) -> None:
        """Drop what it holds when there is something to put into its place, and not before."""
        self._outdated = True

    def finish(self) -> None:
        """Nothing more is to come, and what it holds is of this run."""
        if self._outdated:
            self.replace(b"")

    def _add(self, data: bytes) -> None:
        with errors_named(self.path):
            before = os.fstat(self._descriptor).st_size
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except BaseException:
                with contextlib.suppress(OSError):  # of a pipe nothing can be taken back
                    os.ftruncate(self._descriptor, before)
                raise

    def replace(self, data: bytes) -> None:
        """Put other contents into its place, in one step."""
        with errors_named(self.path), name_aside(self.path) as aside:
            descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
            new = Log(self.path, descriptor)
            lock(descriptor, self.path)
            new._add(data)
            os.replace(aside, self.path)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._outdated = False

    def close(self) -> None:
        os.close(self._descriptor)


def lock(descriptor: int, path: str) -> None:
    """Keep other runs away from a file; the lock ends with the process, however that ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OutputError(
            f"{path}: another janus is writing it; wait for that, or choose another -o"
        ) from None
    except OSError:  # a file system or a pipe that knows no locks
        return


@contextlib.contextmanager
def wait_for_lock(path: str) -> Iterator[None]:
    """Wait until no other process is here."""
    with errors_named(path), open(path, "ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _identity_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
