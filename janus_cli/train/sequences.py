"""A lesson to tokens: what stands at every position, what comes next, and who sees whom.

Several questions about one picture share what stands before them, which is most of the sequence;
they do not see each other, so each costs what it would cost alone. Letters: T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..engine.prompt import PromptWriter
from ..errors import InputError, UsageError
from .lessons import Lesson

SEEN = -1  # in place of an id: a feature of a picture that is read
DRAWN = -2  # in place of an id: a code of a picture that is drawn; as a target: its next code
CODED = -3  # the same of a drawing that comes as codes, not as a picture
NOTHING = -100  # a target where nothing is learned


@dataclass(frozen=True)
class Sample:
    """One lesson as a sequence.

    ids, targets, positions, branches (T,) int64; weights (T,) float32. Branch 0 is what everything
    else sees; branches 1, 2, ... do not see each other. The weights of one answer add up to 1, as
    do those of a prompt that is learned, of a text, and of a whole picture: averaged over all
    words at once, a number would weigh a twentieth of a description.
    """

    ids: Tensor
    targets: Tensor
    positions: Tensor
    branches: Tensor
    weights: Tensor
    picture: np.ndarray | None = None
    """As in Lesson; but codes that are drawn are (2, N), each with the one before it above it."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def coded(self) -> bool:
        return bool((self.targets == CODED).any())

    @property
    def draws(self) -> bool:
        return self.coded or bool((self.targets == DRAWN).any())


class Place(NamedTuple):
    """One position of a sequence that is being written."""

    id: int
    target: int
    position: int
    branch: int = 0
    weight: float = 0.0


class Scribe:
    """Writes the lessons of one model as sequences of at most `length` positions."""

    def __init__(
        self, writer: PromptWriter, image_tokens: int, *, length: int, masked: bool
    ) -> None:
        """`image_tokens` are the codes of a drawn picture; `masked` is that of a Stage."""
        self.writer, self.image_tokens = writer, image_tokens
        self.length, self.masked = length, masked

    def write(self, lesson: Lesson, *, dropped: bool = False) -> Sample:
        """The sequence of a lesson; a caption that is dropped is pad, as guidance wants it.

        Raises:
            InputError: it is longer than a sequence may be.
        """
        try:
            sample = self._sequence(lesson, dropped)
        except UsageError as error:  # of a prompt that the context does not hold
            raise InputError(str(error)) from error
        if len(sample) > self.length:
            raise self._too_long(len(sample))
        return sample

    def _too_long(self, length: int) -> InputError:
        return InputError(f"takes {length} tokens; raise --length, now {self.length}")

    def _sequence(self, lesson: Lesson, dropped: bool) -> Sample:
        if lesson.caption is not None:
            return self._drawing(lesson, lesson.caption, dropped)
        if lesson.text is not None:
            return self._text(lesson.text)
        return self._conversation(lesson.pairs, lesson.picture)

    def _conversation(self, pairs: Sequence[tuple[str, str]], picture: np.ndarray | None) -> Sample:
        """Questions behind what they share; those that do not fit behind others are left out."""
        pictures = 0 if picture is None else 1
        prompts = [self.writer.conversation(pictures, [], question) for question, _ in pairs]
        shared = shared_length(prompts)
        places = self._prompt(prompts[0][:shared], 0, 0)
        shortest = None
        for branch, (prompt, (_, answer)) in enumerate(zip(prompts, pairs, strict=True), 1):
            asked = self._prompt(prompt[shared:], shared, branch)
            words = self.writer.encode(f" {self.writer.plain(answer)}")[1:]
            words.append(self.writer.end_of_sentence)
            if len(places) + len(asked) + len(words) - 1 > self.length:
                alone = len(prompt) + len(words) - 1
                shortest = min(alone, shortest or alone)
                continue
            last, weight = asked.pop(), 1 / len(words)
            inputs = [last.id, *words[:-1]]
            steps = enumerate(zip(inputs, words, strict=True), last.position)
            places += asked
            places += [Place(*step, number, branch, weight) for number, step in steps]
        if len(places) == shared and shortest:
            raise self._too_long(shortest)
        return self._sample(places, picture)

    def _prompt(self, ids: Sequence[int], first: int, branch: int) -> list[Place]:
        """A prompt, or a part of it from position `first` on; learned unless prompts are masked."""
        slot = self.writer.placeholder
        silent = (slot, self.writer.begin_of_image, self.writer.end_of_image)
        places = []
        for index, word in enumerate(ids):
            following = ids[index + 1] if index + 1 < len(ids) else NOTHING
            target = NOTHING if self.masked or following in silent else following
            places.append(Place(SEEN if word == slot else word, target, first + index, branch))
        return places

    def _text(self, text: str) -> Sample:
        """Words that are all learned; what is longer than a sequence may be is cut off."""
        ids = [*self.writer.encode(self.writer.plain(text)), self.writer.end_of_sentence]
        ids = ids[: self.length + 1]
        return self._sample([Place(*step, n) for n, step in enumerate(pairwise(ids))], None)

    def _drawing(self, lesson: Lesson, caption: str, dropped: bool) -> Sample:
        """A caption, which is not learned, and the codes of the picture, which are.

        Of fewer codes than a picture has, each weighs what it weighs in the whole of it.
        """
        ids = self.writer.drawing(caption, self.image_tokens)
        if dropped:
            ids = self.writer.unconditional(ids)
        *before, begin = ids
        places = [Place(word, NOTHING, number) for number, word in enumerate(before)]
        slot, picture, learned = DRAWN, lesson.picture, lesson.learned or range(self.image_tokens)
        if picture is not None and picture.ndim == 1:
            numbers = np.asarray(learned)
            slot, picture = CODED, np.stack((picture[numbers - 1], picture[numbers]))
        places += [
            Place(slot if code else begin, slot, len(before) + code, weight=1 / self.image_tokens)
            for code in learned
        ]
        return self._sample(places, picture)

    def _sample(self, places: Sequence[Place], picture: np.ndarray | None) -> Sample:
        *columns, weights = zip(*places, strict=True)
        ids, targets, positions, branches = torch.tensor(columns, dtype=torch.int64)
        weighted = torch.tensor(weights, dtype=torch.float32)
        prompt = (targets >= 0) & (weighted == 0)  # of whatever has no weight of its own
        weighted[prompt] = 1 / max(int(prompt.sum()), 1)
        return Sample(ids, targets, positions, branches, weighted, picture)


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many ids all prompts begin with, so that each has at least one of its own left."""
    shortest = min(map(len, prompts))
    columns = enumerate(zip(*(prompt[: shortest - 1] for prompt in prompts), strict=True))
    return next((index for index, ids in columns if len(set(ids)) > 1), shortest - 1)
