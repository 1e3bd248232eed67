"""Lessons to the batches of every step, made ahead of the loop by other processes.

What a step learns from depends on the seed and on its number, and on nothing that came before; so a
run that goes on sees what it would have seen, however many processes make it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError
from .lessons import Lesson, Source
from .mixture import Mixture
from .packing import Batch, collate, pack
from .sequences import Sample, Scribe

DROPPED_CAPTIONS = 0.1  # so that guidance has an unconditional row (arXiv 2410.13848, footnote 2)
PATIENCE = 1000  # lessons in a row that cannot be read, until a run ends
AHEAD = 4  # steps that each process is ahead
FOREVER = 2**62


@dataclass(frozen=True)
class Material:
    """What one step learns from, in as many batches as it takes passes."""

    passes: tuple[Batch, ...]
    complaints: tuple[str, ...] = ()
    """Lessons that were left out, and why."""
    error: str | None = None
    """Why there is nothing, where there is nothing."""


class Course(Dataset):
    """The number of a step to its material.

    Every step takes `batch` lessons, packed into sequences, which go through the networks in
    `passes` parts or up to twice as many: the gradients are the same, and the memory is less.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        scribe: Scribe,
        mixture: Mixture,
        *,
        seed: int,
        batch: int,
        passes: int = 1,
    ) -> None:
        self.sources, self.scribe, self.mixture = sources, scribe, mixture
        self.seed, self.batch, self.passes = seed, batch, passes

    def __getitem__(self, step: int) -> Material:
        complaints: list[str] = []
        try:
            indices = range(step * self.batch, (step + 1) * self.batch)
            samples = [self._sample(index, complaints) for index in indices]
        except InputError as error:
            return Material((), tuple(complaints), str(error))
        rows = pack(samples, self.scribe.length)
        # Rows that need no mask go through the networks apart from the others: see Batch.mask.
        kinds: tuple[list[list[Sample]], ...] = ([], [])
        for row in rows:
            kinds[len(row) > 1 or bool(row[0].branches.any())].append(row)
        parts = [part for some in kinds for part in split(some, self.passes)]
        return Material(tuple(map(collate, parts)), tuple(complaints))

    def _sample(self, index: int, complaints: list[str]) -> Sample:
        """The lesson of an index, or the next of its kind that can be learned from."""
        kind, number = self.mixture.nth(index, self.seed)
        sources = [source for source in self.sources if source.count(kind)]
        turn, place = divmod(number, len(sources))
        source = sources[place]
        dropped = random.Random(f"drop {self.seed} {index}").random() < DROPPED_CAPTIONS
        for attempt in range(min(2 * source.count(kind), PATIENCE)):
            lesson: Lesson | None = None
            try:
                lesson = source.lesson(kind, turn + attempt)
                return self.scribe.write(lesson, dropped=dropped)
            except InputError as error:
                named = f"{lesson.name}: {error}" if lesson else str(error)
                complaints.append(f"{named}; it is left out")
        raise InputError(f"{complaints[-1]}; and so is everything else of {kind}")

    def stream(self, first: int, *, workers: int = 0) -> Iterator[Material]:
        """The materials of steps `first`, `first + 1`, ..., without end."""
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, FOREVER),
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            worker_init_fn=one_thread,
        )
        return iter(loader)


def split(rows: list[list[Sample]], most: int) -> list[list[list[Sample]]]:
    """Rows in at most so many parts that are about equal."""
    count = min(most, len(rows))
    ends = [number * len(rows) // count for number in range(count + 1)] if count else []
    return [rows[first:last] for first, last in pairwise(ends)]


def one_thread(worker: int) -> None:
    torch.set_num_threads(1)
