"""Scenes as training sequences: packed questions about a picture, and captions to draw from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine.prompt import PromptWriter
from .captions import caption
from .questions import questions
from .render import render
from .scene import Scene, sample_scene

IGNORED = -100  # targets that cost nothing
DROPPED_CAPTIONS = 0.1  # so that guidance has an unconditional row (arXiv 2410.13848, footnote 2)


@dataclass(frozen=True)
class Conversations:
    """A batch of pictures, each with several questions packed behind it.

    pictures (B, H, W, 3) uint8; ids, targets, positions, segments (B, T) int64. A target is the
    next id where that is part of an answer. Segment 0 is the picture and what stands before it; the
    questions have segments 1, 2, ... and do not see each other; padding has -1.
    """

    pictures: Tensor
    ids: Tensor
    targets: Tensor
    positions: Tensor
    segments: Tensor

    def mask(self) -> Tensor:
        """(B, 1, T, T), True where the row's position sees the column's."""
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        length = self.ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        diagonal = torch.eye(length, dtype=torch.bool)  # padding sees itself, to stay finite
        return (((key == 0) | (key == query)) & causal | diagonal)[:, None]


@dataclass(frozen=True)
class Drawings:
    """A batch of pictures with captions: pictures (B, H, W, 3), ids (B, T) padded on the right."""

    pictures: Tensor
    ids: Tensor
    lengths: Tensor


class ConversationMaker:
    """Seed to a picture with `count` questions; batches have one fixed length, for compilation."""

    def __init__(self, writer: PromptWriter, *, count: int, length: int) -> None:
        self.writer, self.count, self.length = writer, count, length

    def __call__(self, seed: int) -> tuple[Tensor, Tensor]:
        scene = sample_scene(seed)
        columns = self.pack(scene, random.Random(f"questions {seed}"))
        return torch.from_numpy(render(scene)), columns

    def pack(self, scene: Scene, rng: random.Random) -> Tensor:
        """Rows ids, targets, positions, segments, (4, length); what does not fit is left out."""
        ids: list[int] = []
        targets: list[int] = []
        positions: list[int] = []
        segments: list[int] = []
        for number, pair in enumerate(questions(scene, rng, self.count), 1):
            prefix, asked = self.split(self.writer.conversation(1, [], pair.question))
            if not ids:
                ids, targets = list(prefix), [IGNORED] * len(prefix)
                positions, segments = list(range(len(prefix))), [0] * len(prefix)
            answer = [*self.answer_ids(pair.answer), self.writer.end_of_sentence]
            added = [*asked, *answer[:-1]]
            if len(ids) + len(added) > self.length:
                continue
            ids += added
            targets += [IGNORED] * (len(asked) - 1) + answer
            positions += range(len(prefix), len(prefix) + len(added))
            segments += [number] * len(added)
        rest = self.length - len(ids)
        columns = (
            ids + [self.writer.pad] * rest,
            targets + [IGNORED] * rest,
            positions + [0] * rest,
            segments + [-1] * rest,
        )
        return torch.tensor(columns)

    def split(self, ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """What all questions share, up to the picture's end, and the question itself."""
        end = ids.index(self.writer.end_of_image) + 1
        return ids[:end], ids[end:]

    def answer_ids(self, answer: str) -> list[int]:
        return self.writer.encode(f" {answer}")[1:]

    def collate(self, items: Sequence[tuple[Tensor, Tensor]]) -> Conversations:
        pictures, columns = zip(*items, strict=True)
        return Conversations(torch.stack(pictures), *torch.stack(columns, dim=1))


class DrawingMaker:
    """Seed to (picture, ids of its caption); `simple` is the share of pictures with one thing."""

    def __init__(self, writer: PromptWriter, *, simple: float) -> None:
        self.writer, self.simple = writer, simple

    def __call__(self, seed: int) -> tuple[Tensor, list[int]]:
        rng = random.Random(f"caption {seed}")
        if rng.random() < self.simple:
            scene = sample_scene(seed, max_things=1, text_share=0)
        else:
            scene = sample_scene(seed, text_share=0.06)
        ids = self.writer.drawing(caption(scene, rng))
        if rng.random() < DROPPED_CAPTIONS:
            ids = self.writer.unconditional(ids)
        return torch.from_numpy(render(scene)), ids

    def collate(self, items: Sequence[tuple[Tensor, list[int]]]) -> Drawings:
        pictures, ids = zip(*items, strict=True)
        longest = max(map(len, ids))
        padded = [row + [self.writer.pad] * (longest - len(row)) for row in ids]
        lengths = torch.tensor([len(row) for row in ids])
        return Drawings(torch.stack(pictures), torch.tensor(padded), lengths)
