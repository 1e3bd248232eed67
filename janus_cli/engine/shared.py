"""One engine for many callers, each in a thread of its own.

One more thread does all the work, a little of each kind in turn, so that an answer does not wait
for a whole picture, nor a picture for a long answer. What is asked and who may ask it, is not known
here.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..schema import Wish
from . import decode
from .answering import Answers, Prompts
from .batch import Prompt, Said, sharing
from .decode import Drawing, Native, Sampling
from .drawing import Drawings, Order, Painting, Paintings
from .strand import Call, Strand

WAITING = 2  # groups of prompts that a caller has waiting; their pictures are held in memory


@dataclass(frozen=True)
class Load:
    """What an engine is doing."""

    answers: int
    drawings: int
    """Pictures being drawn."""


class Session:
    """The engine as one caller sees it: as if it were theirs alone.

    A caller that closes what `write` or `draw` gave it is forgotten at the next step. One that
    waits in its thread is sent away from another with `cancel`; so it is at the end of a `with`.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.writer = shared.writer
        self.preprocessing = shared.preprocessing
        self.name = shared.name
        self.precision = shared.precision
        self.notes = shared.notes
        self.image_tokens = shared.image_tokens
        self.cancelled = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def write(self, prompts: Iterable[Prompt]) -> Iterator[Said]:
        """As Native.write; the prompts are asked for in the caller's thread.

        Raises:
            ModelError: the engine is closed or the session cancelled, before or meanwhile.
        """
        call, handed_in, missing, more = Prompts(), 0, 0, True
        groups = sharing(prompts, decode.ANSWERS)
        answers = self.shared.answers
        with self.calling(call, answers):
            while more or missing:
                if more and call.told.empty() and handed_in - call.taken_up < WAITING:
                    group = next(groups, None)
                    if more := group is not None:
                        self.shared.ask(answers, partial(answers.hand_in, call, group))
                        handed_in, missing = handed_in + 1, missing + len(group)
                else:
                    said = call.listen()
                    missing -= said[1] is None
                    yield said

    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """As Native.draw, beside the drawings of others; what is told lies in main memory.

        Raises:
            ModelError: the engine is closed or the session cancelled, before or meanwhile.
        """
        order = Order(drawings, sampling)
        strand = self.shared.drawings
        with self.calling(order, strand):
            self.shared.ask(strand, partial(strand.hand_in, order))
            for _ in range(self.steps(sampling)):
                yield order.listen()

    def paint(self, drawn: Tensor) -> Tensor:
        """As Native.paint.

        Raises:
            ModelError: the engine is closed or the session cancelled, before or meanwhile.
        """
        painting = Painting(drawn)
        strand = self.shared.paintings
        with self.calling(painting, strand):
            self.shared.ask(strand, partial(strand.hand_in, painting))
            return painting.listen()

    def sampling(self, wish: Wish) -> Sampling:
        """As Native.sampling."""
        return self.shared.native.sampling(wish)

    def steps(self, sampling: Sampling) -> int:
        """As Native.steps."""
        return self.shared.native.steps(sampling)

    def most_pictures(self) -> int:
        """As Native.most_pictures, when nothing is drawn beside."""
        return self.shared.drawings.most

    def cancel(self) -> None:
        """From any thread: free what is under way, and end this and every later call."""
        with self.shared.lock:
            self.cancelled = True
            for call, (session, strand) in self.shared.calls.items():
                if session is self:
                    self.shared.ask(strand, partial(strand.leave, call))
                    call.told.put(self.why_not())

    @contextmanager
    def calling(self, call: Call[Any], strand: Strand) -> Iterator[None]:
        """Keep a call known until its end."""
        with self.shared.lock:
            if self.cancelled or self.shared.closed:
                raise self.why_not()
            self.shared.calls[call] = self, strand
        try:
            yield
        finally:
            self.shared.ask(strand, partial(strand.leave, call))
            with self.shared.lock:
                del self.shared.calls[call]
                self.shared.idle_from = time.monotonic()

    def why_not(self) -> ModelError:
        what = "the request was cancelled" if self.cancelled else "was closed"
        return ModelError(f"{self.name}: {what} before it was done; ask again")


class Shared:
    """One engine and the thread in which it works for all.

    Errors reach those whom they concern, and the others go on.
    """

    def __init__(self, native: Native) -> None:
        """From here on nobody else may use the engine, until `close`."""
        self.native = native
        self.writer = native.writer
        self.preprocessing = native.preprocessing
        self.name = native.name
        self.precision = native.precision
        self.notes = native.notes
        self.image_tokens = native.image_tokens
        self.answers, self.drawings = Answers(native), Drawings(native)
        self.paintings = Paintings(native)
        self.asked: queue.SimpleQueue[tuple[Strand, Callable[[], None]] | None]
        self.asked = queue.SimpleQueue()
        """What callers want to be done in the thread of the work; None ends it."""
        self.lock = threading.RLock()  # a generator that is collected takes it, whoever holds it
        self.calls: dict[Call[Any], tuple[Session, Strand]] = {}
        self.closed = False
        self.idle_from = time.monotonic()
        self.thread = threading.Thread(target=self.work, name=f"janus {self.name}", daemon=True)
        self.thread.start()

    def session(self) -> Session:
        """The engine for one caller, who may be sent away."""
        return Session(self)

    def write(self, prompts: Iterable[Prompt]) -> Iterator[Said]:
        """As Session.write."""
        return self.session().write(prompts)

    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """As Session.draw."""
        return self.session().draw(drawings, sampling)

    def paint(self, drawn: Tensor) -> Tensor:
        """As Session.paint."""
        return self.session().paint(drawn)

    def sampling(self, wish: Wish) -> Sampling:
        """As Native.sampling."""
        return self.native.sampling(wish)

    def steps(self, sampling: Sampling) -> int:
        """As Native.steps."""
        return self.native.steps(sampling)

    def most_pictures(self) -> int:
        """As Session.most_pictures."""
        return self.session().most_pictures()

    def ask(self, strand: Strand, action: Callable[[], None]) -> None:
        """Have something done in the thread of the work, in the order of asking."""
        self.asked.put((strand, action))

    # What a server wants to know

    def busy(self) -> bool:
        """Whether anybody waits for an answer or a picture."""
        return bool(self.calls)

    def idle_since(self) -> float | None:
        """Since when, by time.monotonic(), nobody has waited for anything; None while busy."""
        with self.lock:
            return None if self.calls else self.idle_from

    def load(self) -> Load:
        """What is under way; it does not count what waits for room."""
        return Load(self.answers.under_way(), self.drawings.under_way())

    def close(self) -> None:
        """End the work; whoever still waits for something gets a ModelError."""
        with self.lock:
            self.closed = True
        self.asked.put(None)
        self.thread.join()

    # The thread of the work

    def work(self) -> None:
        """Do what is asked, a little of every strand in turn, until the end."""
        strands: tuple[Strand, ...] = (self.answers, self.drawings, self.paintings)
        try:
            with torch.inference_mode():
                while self.take_in(strands):
                    for strand in strands:
                        if strand.busy():
                            attempt(strand, strand.advance)
        finally:
            with self.lock:
                self.closed = True
                for call, (session, _) in self.calls.items():
                    call.told.put(session.why_not())

    def take_in(self, strands: Sequence[Strand]) -> bool:
        """Hear what callers have asked since, and wait where there is no work; False at the end."""
        while True:
            try:
                asked = self.asked.get(block=not any(strand.busy() for strand in strands))
            except queue.Empty:
                return True
            if asked is None:
                return False
            attempt(*asked)


def attempt(strand: Strand, action: Callable[[], None]) -> None:
    """Do something for a strand; an error is its own."""
    try:
        action()
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # they hold tensors
        strand.fail(error)
