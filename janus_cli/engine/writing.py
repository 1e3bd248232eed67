"""Answers under way, with fewer of them at once where memory runs out.

It knows neither where prompts come from nor who waits for their answers.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Container, Sequence

from .batch import Numbered, Past, Prompt, Row, TextBatch
from .machine import give_back_memory, is_out_of_memory
from .model import Reader
from .prompt import PromptWriter

Outcome = tuple[int, int | Exception | None]
"""The number of a prompt and a token of its answer; None where that is complete, or why it is not
to be had."""


class Writing:
    """The rows of a batch, and those that wait to get into it.

    Where memory runs out, the batch is given up and another begun with half as many rows; each goes
    on from the tokens that it has. An answer that has no room even alone ends with the error.
    """

    def __init__(
        self,
        model: Reader,
        writer: PromptWriter,
        most: Callable[[int], int],
        past: Past | None = None,
    ) -> None:
        """`most` says how many answers of up to so many tokens memory holds, 1 or more."""
        self.model = model
        self.writer = writer
        self.most = most
        self.limit: int | None = None
        """Half of what memory has turned out to be too small for."""
        self.waiting: deque[list[Row]] = deque()
        self.batch = TextBatch(model, writer, past)

    @property
    def past(self) -> Past | None:
        """What the last answer has left behind, if it was alone."""
        return self.batch.past

    def busy(self) -> bool:
        """Whether any answer is still to be completed."""
        return bool(self.batch.rows or self.waiting)

    def has_room(self, group: Sequence[Numbered]) -> bool:
        """Whether a group can be taken in now, or at least as much of it as ever fits at once."""
        return not self.waiting and self.room_for([prompt for _, prompt in group]) > 0

    def room_for(self, prompts: Sequence[Prompt]) -> int:
        """How many prompts of a group may join; none where more could join later."""
        limit = self.limit_with(prompts)
        under_way = len(self.batch.rows)
        together = min(len(prompts), limit)
        return together if under_way + together <= limit else 0

    def limit_with(self, prompts: Sequence[Prompt]) -> int:
        """How many answers fit at once beside these."""
        all_of_them = (*(row.prompt for row in self.batch.rows), *prompts)
        limit = self.most(max(prompt.max_tokens for prompt in all_of_them))
        return limit if self.limit is None else min(limit, self.limit)

    def admit(self, group: Sequence[Numbered]) -> list[Outcome]:
        """Take in a group about the same pictures, for which there is room."""
        context = self.writer.context
        self.waiting.append([Row.begin(number, prompt, context) for number, prompt in group])
        return self.resume()

    def step(self) -> list[Outcome]:
        """Go on by one token in every row."""
        outcomes = self.resume()
        return [*outcomes, *self.attempt()] if self.batch.rows else outcomes

    def resume(self) -> list[Outcome]:
        """Put rows that wait into the batch as long as it has room."""
        outcomes: list[Outcome] = []
        while self.waiting:
            group = self.waiting[0]
            count = self.room_for([row.prompt for row in group])
            if count == 0:
                break
            self.waiting.popleft()
            if group[count:]:
                self.waiting.appendleft(group[count:])
            outcomes += self.attempt(group[:count])
        return outcomes

    def attempt(self, joining: Sequence[Row] = ()) -> Sequence[Outcome]:
        """Take rows into the batch, or step where there are none."""
        rows = [*self.batch.rows, *joining]
        try:
            if not joining:
                return self.batch.step()
            limit = self.limit_with([row.prompt for row in joining])
            return self.batch.admit(joining, limit)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold the tensors of the batch
            lost = self.concerned(error, rows, joining)
            self.begin_anew([row for row in rows if row not in lost], joining)
            return [(row.number, error) for row in lost]

    def concerned(
        self, error: Exception, rows: Sequence[Row], joining: Sequence[Row]
    ) -> Sequence[Row]:
        """The rows that an error ends; none where fewer at once, or another try, may help."""
        if not is_out_of_memory(error):
            return joining or rows
        hopeless = len(rows) == 1 and rows[0].retried
        self.limit = None if hopeless else max(1, len(rows) // 2)
        rows[0].retried = len(rows) == 1
        return rows if hopeless else ()

    def begin_anew(self, rows: Sequence[Row], joining: Sequence[Row]) -> None:
        """Give up the cache, and let these rows wait for a place in another one."""
        self.batch = TextBatch(self.model, self.writer)
        give_back_memory(self.model.device)
        new = [row for row in rows if row in joining]
        back = [[row] for row in rows if row not in joining]
        self.waiting.extendleft(reversed([*back, new] if new else back))

    def drop(self, numbers: Container[int]) -> None:
        """Let go of the answers of these numbers."""
        self.batch.drop(numbers)
        kept = ([row for row in group if row.number not in numbers] for group in self.waiting)
        self.waiting = deque(group for group in kept if group)
