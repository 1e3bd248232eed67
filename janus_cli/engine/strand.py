"""What a thread that works for many callers and these callers know of each other."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """What one caller is told, in order, or the error that ends it."""

    def __init__(self) -> None:
        self.told: SimpleQueue[T | Exception] = SimpleQueue()

    def listen(self) -> T:
        """Wait for the next that is told; an error is raised."""
        heard = self.told.get()
        if isinstance(heard, Exception):
            raise heard
        return heard


class Strand(Protocol):
    """One kind of work, of which a little is done at a time; it knows nothing of the others."""

    def busy(self) -> bool:
        """Whether there is any work."""

    def advance(self) -> None:
        """Do a little of it."""

    def fail(self, error: Exception) -> None:
        """Tell those whom an error of the last advance concerns, and be ready for the others."""

    def leave(self, call: Any) -> None:
        """Forget a call to which nobody listens any more."""
