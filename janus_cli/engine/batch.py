"""Answers under way, several at once: which prompt has which row of the cache, and for how long.

A row that is free takes the next prompt while the others go on. Prompts about the same pictures
share all that they begin with: it is computed once. So is the past of a conversation. What happens
where memory runs out, writing.py knows.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile

import torch
from torch import Tensor

from .kv_cache import Cache
from .model import Reader
from .prompt import PromptWriter
from .sample import pick_each, uniform_numbers

GROWTH = 64  # positions by which the cache grows at least


@dataclass(frozen=True)
class Prompt:
    """What is to be answered. Prompts that share their pictures hold the same tensor."""

    ids: Sequence[int]
    """With a placeholder for every image token."""
    pixels: Tensor | None = None
    """(pictures, 3, size, size) for those placeholders, in order."""
    seed: int = 0
    max_tokens: int = 512
    """The answer ends there at the latest; 1 or more."""
    temperature: float = 0.0
    """0 is greedy."""


Numbered = tuple[int, Prompt]
Said = tuple[int, int | None]  # the number of a prompt and a token, or None: the answer is complete


@dataclass(eq=False)
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
    retried: bool = False
    """Whether memory has run out for this answer alone."""

    @classmethod
    def begin(cls, number: int, prompt: Prompt, context: int) -> Row:
        """An answer of which nothing is known, in a context of so many positions."""
        left = min(prompt.max_tokens, context - len(prompt.ids))
        return cls(number, prompt, left, uniform_numbers([prompt.seed], left)[0])

    @property
    def length(self) -> int:
        """Of the prompt and the answer until now."""
        return len(self.prompt.ids) + len(self.tokens)


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

    def __init__(self, model: Reader, writer: PromptWriter, past: Past | None = None) -> None:
        self.model = model
        self.writer = writer
        self.rows: list[Row] = []
        self.past = past
        self.cache = Cache(
            model.config.language, 0, 0, dtype=model.cache_dtype, device=model.device
        )

    def admit(self, joining: Sequence[Row], most: int) -> list[Said]:
        """Take in rows about the same pictures; the next token of each.

        They are new, or one that goes on from the tokens it has. Where rows come one by one, their
        cache is doubled, up to `most`: to copy it for each took a tenth of the time of eight.
        """
        first = len(self.rows)
        places = range(first, first + len(joining))
        if first == 0 and len(joining) == 1:
            self.recall(joining[0].prompt)
        self.past = None
        rows = max(places.stop, min(2 * first, most))
        self.cache.reserve(rows, max(r.length + min(r.left, GROWTH) for r in joining))
        logits = self.model.text_logits(self.prefill(joining, places))
        self.rows += joining
        return self.pick(logits, first)

    def prefill(self, joining: Sequence[Row], places: Sequence[int]) -> Tensor:
        """The last state of each row (N, D); what all prompts begin with is computed once."""
        model, cache = self.model, self.cache
        placeholder = self.writer.placeholder
        prompts = [row.prompt for row in joining]
        shared = common([prompt.ids[:-1] for prompt in prompts])
        if len(prompts) == 1 or any(placeholder in prompt.ids[shared:] for prompt in prompts):
            alone = [self.prefill_alone(row, at) for row, at in zip(joining, places, strict=True)]
            return torch.cat(alone)
        first = prompts[0]
        if shared:
            beginning = model.embed_prompt(first.ids[:shared], first.pixels, placeholder)
            model.language.prefill(beginning, cache, places)
        ends = [torch.tensor(prompt.ids[shared:]) for prompt in prompts]
        padded = torch.nn.utils.rnn.pad_sequence(ends, batch_first=True).to(model.device)
        return model.language.prefill(
            model.embed_text(padded), cache, places, [len(end) for end in ends]
        )

    def prefill_alone(self, row: Row, place: int) -> Tensor:
        """The last state (1, D) of a row; the cache may hold the beginning of its prompt."""
        model, prompt, held = self.model, row.prompt, self.cache.lengths[place]
        pixels = None if held else prompt.pixels
        x = model.embed_prompt(prompt.ids[held:], pixels, self.writer.placeholder)
        if row.tokens:
            said = torch.tensor([row.tokens], device=model.device)
            x = torch.cat((x, model.embed_text(said)), dim=1)
        return model.language.prefill(x, self.cache, [place])

    def recall(self, prompt: Prompt) -> None:
        """Take up the cache of the answer before, if the prompt begins as that did."""
        if self.past:
            shared = self.past.shared_with(prompt, self.writer.placeholder)
            if shared:
                self.cache = self.past.cache
                self.cache.lengths[0] = shared

    def step(self) -> list[Said]:
        """Go on by one token in every row."""
        self.make_room()
        model = self.model
        tokens = torch.tensor([row.tokens[-1] for row in self.rows], device=model.device)
        states = model.language.step(model.embed_text(tokens), self.cache)
        return self.pick(model.text_logits(states), 0)

    def pick(self, logits: Tensor, first: int) -> list[Said]:
        """Pick a token for each row from `first` on, by its logits; None where an answer ends."""
        said: list[Said] = []
        tokens = choose(self.rows[first:], logits)
        for index in reversed(range(first, len(self.rows))):  # what is moved, has had its turn
            row = self.rows[index]
            token = tokens[index - first]
            row.tokens.append(token)
            row.left -= 1
            ends = token == self.writer.end_of_sentence
            if not ends:
                said.append((row.number, token))
            if ends or row.left == 0:
                self.free(index)
                said.append((row.number, None))
        return said

    def drop(self, numbers: Container[int]) -> None:
        """Let go of the rows of these numbers, wherever their answers stand."""
        for index in reversed(range(len(self.rows))):
            if self.rows[index].number in numbers:
                self.free(index)

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


def choose(rows: Sequence[Row], logits: Tensor) -> list[int]:
    """The next token of each row, by its logits (N, V), its temperature and its own numbers."""
    temperatures = [row.prompt.temperature for row in rows]
    if not any(temperatures):
        return logits.argmax(-1).tolist()
    uniforms = torch.stack([row.uniforms[-row.left] for row in rows]).to(logits.device)
    return pick_each(logits, uniforms, torch.tensor(temperatures, device=logits.device)).tolist()


def common(sequences: Sequence[Sequence[int]]) -> int:
    """How many ids all sequences begin with."""
    columns = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
