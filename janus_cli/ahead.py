"""Sources read ahead on threads, told in their order. Knows neither pictures nor models."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from queue import Empty, Queue
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")

SOURCES = 4  # read at a time
ITEMS = 4  # of one source that wait to be taken; at least 2, see Shelf.leave


class End:
    """Stands behind the last item of a source, with the error that ended it, if one did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Shelf(Generic[Source, Item]):
    """The items of one source, which a thread puts there until they are taken.

    Threads of its own instead of a pool's: at an interrupt nobody waits for a slow download.
    """

    def __init__(self, source: Source, read: Callable[[Source], Iterator[Item]]) -> None:
        self.source = source
        self._items: Queue[Item | End] = Queue(ITEMS)
        self._left = threading.Event()
        threading.Thread(target=self._fill, args=(read,), daemon=True).start()

    def _fill(self, read: Callable[[Source], Iterator[Item]]) -> None:
        end = End()
        try:
            for item in read(self.source):
                if self._left.is_set():
                    break
                self._items.put(item)
        except BaseException as error:  # handed over, and raised where the items are taken
            end = End(error)
        self._items.put(end)

    def take(self) -> Iterator[Item]:
        """The items as they come; raises what reading raised."""
        while not isinstance(item := self._items.get(), End):
            yield item
        if item.error is not None:
            raise item.error

    def leave(self) -> None:
        """Let the thread end: it puts at most the item that it holds, and the end."""
        self._left.set()
        try:
            while True:
                self._items.get_nowait()
        except Empty:
            pass


def read_ahead(
    sources: Iterable[Source], read: Callable[[Source], Iterator[Item]], *, at_once: int = SOURCES
) -> Iterator[tuple[Source, Item]]:
    """The items of every source with their source, in order; some sources are read at a time.

    What `read` raises is raised in its place, and ends everything.
    """
    upcoming = iter(sources)
    shelves = deque(Shelf(source, read) for source in islice(upcoming, at_once))
    try:
        while shelves:
            for item in shelves[0].take():
                yield shelves[0].source, item
            shelves.popleft()
            shelves.extend(Shelf(source, read) for source in islice(upcoming, 1))
    finally:
        for shelf in shelves:
            shelf.leave()
