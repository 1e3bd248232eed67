"""A task on a thread of its own, and its events on the event loop. It knows no bodies."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from .errors import ApiError, explained

if TYPE_CHECKING:
    from ..engine.shared import Session, Shared

FAREWELL = 5.0  # seconds that a thread gets to notice that nobody waits for it
T = TypeVar("T")


class End:
    """What stands behind the last event."""


END = End()


class Work:
    """What is done for one request. It ends with it, however that ends."""

    def __init__(self, engine: Shared, seconds: float) -> None:
        self.session = engine.session()
        self.seconds = seconds
        self.deadline = anyio.current_time() + seconds
        self.loop = asyncio.get_running_loop()
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        """Events; at the end an End, or the error in its place."""
        self.ended = asyncio.Event()
        self.ended.set()

    async def __aenter__(self) -> Work:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Have the engine forget the task, and wait for its thread."""
        self.session.cancel()
        with anyio.move_on_after(FAREWELL, shield=True):
            await self.ended.wait()

    async def events(self, task: Callable[[Session], Generator[T]]) -> AsyncIterator[T]:
        """What a task yields, once.

        Raises:
            ApiError: whatever went wrong, or it takes too long.
        """
        self.ended.clear()
        threading.Thread(target=self._run, args=(task,), daemon=True).start()
        while not isinstance(event := await self._next(), End):
            if isinstance(event, Exception):
                raise explained(event) from event
            yield event

    async def _next(self) -> Any:
        try:
            with anyio.fail_after(self.deadline - anyio.current_time()):
                return await self.told.get()
        except TimeoutError:
            message = f"takes longer than {self.seconds:g} seconds; ask for less"
            raise ApiError(503, message, code="timeout") from None

    def _run(self, task: Callable[[Session], Generator[T]]) -> None:
        """What the thread does."""
        try:
            with contextlib.closing(task(self.session)) as events:
                for event in events:
                    self._tell(event)
            self._tell(END)
        except Exception as error:
            self._tell(error)
        finally:
            self._call(self.ended.set)

    def _tell(self, event: Any) -> None:
        self._call(self.told.put_nowait, event)

    def _call(self, action: Callable[..., object], *values: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self.loop.call_soon_threadsafe(action, *values)
