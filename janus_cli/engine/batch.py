"""Answers under way, several at once: which prompt has which row of the cache, and for how long.

A row that is free takes the next prompt while the others go on. Prompts about the same pictures
share all that they begin with: it is computed once. So is the past of a conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile

import torch
from torch import Tensor

from .kv_cache import Cache
from .model import Janus
from .prompt import PromptWriter
from .sample import pick, uniform_numbers

GROWTH = 64  # positions by which the cache grows at least


@dataclass(frozen=True)
class Prompt:
    """What is to be answered. Prompts that share their pictures hold the same tensor."""

    ids: Sequence[int]
    """With a placeholder for every image token."""
    pixels: Tensor | None = None
    """(pictures, 3, size, size) for those placeholders, in order."""
    seed: int = 0


Numbered = tuple[int, Prompt]


@dataclass
class Row:
    """An answer under way."""

    number: int
    prompt: Prompt
    left: int
    """How many tokens may still come."""
    uniforms: Tensor
    """A number in [0, 1) for each token, from the first."""
    tokens: list[int] = field(default_factory=list)
    """The answer until now, the end of the sentence included."""


@dataclass(frozen=True)
class Past:
    """What a lone answer leaves behind, for a prompt that goes on from it."""

    ids: tuple[int, ...]
    """Of the positions that the first row of the cache holds."""
    pixels: Tensor | None
    cache: Cache

    def shared_with(self, prompt: Prompt, placeholder: int) -> int:
        """How many ids of a prompt need not be computed again; never all of them."""
        shared = common((self.ids, prompt.ids[:-1]))
        if placeholder in prompt.ids[shared:]:
            return 0
        if self.pixels is None or prompt.pixels is None:
            return shared if self.pixels is prompt.pixels else 0
        return shared if torch.equal(self.pixels, prompt.pixels) else 0


def sharing(prompts: Iterable[Prompt], most: int) -> Iterator[list[Numbered]]:
    """Neighbours about the same pictures, up to `most` at once, each with its number."""

    def pictures(item: Numbered) -> int:
        prompt = item[1]
        return id(prompt if prompt.pixels is None else prompt.pixels)

    for _, group in groupby(enumerate(prompts), key=pictures):
        members = list(group)
        for first in range(0, len(members), most):
            yield members[first : first + most]


class TextBatch:
    """The rows of one batch; their cache grows with them."""

    def __init__(
        self,
        model: Janus,
        writer: PromptWriter,
        past: Past | None = None,
        *,
        max_tokens: int,
        temperature: float,
    ) -> None:
        self.model = model
        self.writer = writer
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.rows: list[Row] = []
        self.past = past
        self.cache = Cache(model.config.language, 0, 0, dtype=model.dtype, device=model.device)

    def has_room(self, group: Sequence[Numbered], most: int) -> bool:
        """Whether a group can be added without more than `most` rows."""
        return not self.rows or len(self.rows) + len(group) <= most

    def admit(self, group: Sequence[Numbered]) -> Iterator[tuple[int, int | None]]:
        """Give each prompt of a group about the same pictures a row, and yield its first token."""
        prompts = [prompt for _, prompt in group]
        first = len(self.rows)
        longest = max(len(prompt.ids) for prompt in prompts)
        if first == 0 and len(group) == 1:
            self.recall(prompts[0])
        self.past = None
        self.cache.reserve(first + len(group), longest + min(self.max_tokens, GROWTH))
        states = self.prefill(prompts, range(first, first + len(group)))
        for number, prompt in group:
            left = min(self.max_tokens, self.writer.context - len(prompt.ids))
            uniforms = uniform_numbers([prompt.seed], left)[0]
            self.rows.append(Row(number, prompt, left, uniforms))
        yield from self.pick(states, first)

    def prefill(self, prompts: Sequence[Prompt], rows: Sequence[int]) -> Tensor:
        """The last state of each prompt (N, D); what all begin with is computed once."""
        model, cache = self.model, self.cache
        placeholder = self.writer.placeholder
        shared = common([prompt.ids[:-1] for prompt in prompts])
        if len(prompts) == 1 or any(placeholder in prompt.ids[shared:] for prompt in prompts):
            return torch.cat(
                [self.prefill_alone(prompt, row) for prompt, row in zip(prompts, rows, strict=True)]
            )
        first = prompts[0]
        if shared:
            beginning = model.embed_prompt(first.ids[:shared], first.pixels, placeholder)
            model.language.prefill(beginning, cache, rows)
        ends = [torch.tensor(prompt.ids[shared:]) for prompt in prompts]
        padded = torch.nn.utils.rnn.pad_sequence(ends, batch_first=True).to(model.device)
        return model.language.prefill(
            model.embed_text(padded), cache, rows, [len(end) for end in ends]
        )

    def prefill_alone(self, prompt: Prompt, row: int) -> Tensor:
        """The last state (1, D) of a prompt of which its row may hold the beginning."""
        model, held = self.model, self.cache.lengths[row]
        pixels = None if held else prompt.pixels
        x = model.embed_prompt(prompt.ids[held:], pixels, self.writer.placeholder)
        return model.language.prefill(x, self.cache, [row])

    def recall(self, prompt: Prompt) -> None:
        """Take up the cache of the answer before, if the prompt begins as that did."""
        if self.past:
            shared = self.past.shared_with(prompt, self.writer.placeholder)
            if shared:
                self.cache = self.past.cache
                self.cache.lengths[0] = shared

    def step(self) -> Iterator[tuple[int, int | None]]:
        """Go on by one token in every row; yields it with the number of the row's prompt."""
        self.make_room()
        model = self.model
        tokens = torch.tensor([row.tokens[-1] for row in self.rows], device=model.device)
        yield from self.pick(model.language.step(model.embed_text(tokens), self.cache), 0)

    def pick(self, states: Tensor, first: int) -> Iterator[tuple[int, int | None]]:
        """Pick a token for each row from `first` on, by its state; None where an answer ends."""
        logits = self.model.text_logits(states)
        uniforms = torch.stack([row.uniforms[-row.left] for row in self.rows[first:]])
        tokens = pick(logits, uniforms.to(logits.device), temperature=self.temperature).tolist()
        for index in reversed(range(first, len(self.rows))):  # what is moved, has had its turn
            row = self.rows[index]
            token = tokens[index - first]
            row.tokens.append(token)
            row.left -= 1
            ends = token == self.writer.end_of_sentence
            if not ends:
                yield row.number, token
            if ends or row.left == 0:
                self.free(index)
                yield row.number, None

    def free(self, index: int) -> None:
        """Let go of a row; the last one takes its place."""
        row, last = self.rows[index], len(self.rows) - 1
        if len(self.cache.lengths) == 1:
            ids = (*row.prompt.ids, *row.tokens[:-1])  # the last was never the input of a step
            self.past = Past(ids, row.prompt.pixels, self.cache)
        self.cache.move(last, index)
        self.rows[index] = self.rows[last]
        self.rows.pop()

    def make_room(self) -> None:
        """Grow the cache where the longest row has filled it."""
        lengths = self.cache.lengths[: len(self.rows)]
        if max(lengths) == self.cache.capacity:
            still = max(row.left for row in self.rows)
            growth = min(still, max(GROWTH, self.cache.capacity // 4))
            self.cache.reserve(len(self.rows), self.cache.capacity + growth)


def common(sequences: Sequence[Sequence[int]]) -> int:
    """How many ids all sequences begin with."""
    columns = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
