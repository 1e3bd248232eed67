"""The answers to many callers, in one batch. It does not know in which thread, nor of pictures."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable

from .batch import Numbered, Said
from .decode import Native
from .strand import Call
from .writing import Outcome, Writing


class Prompts(Call[Said]):
    """The prompts of one caller."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[list[Numbered]] = deque()
        """Groups about the same pictures that have no row yet."""
        self.taken_up = 0
        """How many groups have waited long enough."""


class Answers:
    """The strand of text. Whose turn it is to join the batch, goes round among the callers."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self.writing: Writing | None = None
        self.turns: deque[Prompts] = deque()
        """Callers of whom a group waits, the next one first."""
        self.asked: dict[int, tuple[Prompts, int]] = {}
        """Who waits for each answer under way, and its number there."""
        self.numbers = itertools.count()

    def busy(self) -> bool:
        return bool(self.turns or self.writing)

    def under_way(self) -> int:
        """How many answers are being written."""
        return len(self.asked)

    def hand_in(self, prompts: Prompts, group: list[Numbered]) -> None:
        """Let a group wait for its caller's turn."""
        if not prompts.waiting:
            self.turns.append(prompts)
        prompts.waiting.append(group)

    def advance(self) -> None:
        """Take in one group if there is room, and go on by one token in every row."""
        if self.writing is None:
            self.writing = self.native.begin_writing()
        if self.turns and self.writing.has_room(self.turns[0].waiting[0]):
            self.tell(self.writing.admit(self.next_group()))
        self.tell(self.writing.step())
        if not self.writing.busy():  # whoever comes next gets a new cache and no limit
            self.native.past, self.writing = self.writing.past, None

    def next_group(self) -> list[Numbered]:
        """The group whose turn it is, numbered among those of all callers."""
        prompts = self.turns.popleft()
        group = prompts.waiting.popleft()
        prompts.taken_up += 1
        if prompts.waiting:
            self.turns.append(prompts)
        numbered = []
        for own, prompt in group:
            number = next(self.numbers)
            self.asked[number] = prompts, own
            numbered.append((number, prompt))
        return numbered

    def tell(self, outcomes: Iterable[Outcome]) -> None:
        """Pass outcomes on to those who asked."""
        for number, token in outcomes:
            prompts, own = self.asked[number]
            if not isinstance(token, int):
                del self.asked[number]
            prompts.told.put(token if isinstance(token, Exception) else (own, token))

    def fail(self, error: Exception) -> None:
        for prompts in {prompts for prompts, _ in self.asked.values()} | set(self.turns):
            prompts.told.put(error)
            prompts.waiting.clear()
        self.asked.clear()
        self.turns.clear()
        self.writing = None

    def leave(self, call: Prompts) -> None:
        if call.waiting:
            self.turns.remove(call)
            call.waiting.clear()
        gone = {number for number, (prompts, _) in self.asked.items() if prompts is call}
        for number in gone:
            del self.asked[number]
        if self.writing and gone:
            self.writing.drop(gone)
