"""The picture world as a source of lessons: endless, of every kind, from seeds of its own."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
from PIL import Image

from ...engine.pixels import Preprocessing
from ..data import TRAINING_SEEDS
from ..lessons import KINDS, Lesson
from ..stamps import Stamps
from .captions import caption, describe
from .questions import questions
from .render import render
from .scene import Scene, sample_contrast, sample_drawing, sample_scene
from .style import DRAWN, TRAINING

QUESTIONS = 12  # about one picture, or about one description
READ = 0.25  # share of the pictures to read that show a string
READ_QUESTIONS = 4  # about such a picture: there is little to ask, and more pictures teach more
BRIEF = 0.65  # share of drawings of which only the codes that tell them are learned
CONTRAST = 0.35  # share of drawings in which no two things share a color or a kind
ENDLESS = 1_000_000  # scenes of a kind before those of the next kind begin
FIRST = 10 * TRAINING_SEEDS  # the training seeds below are those of the encoders' own stages
BESIDE = re.compile(r"\b(left|right) of\b|\babove\b|\bbelow\b")
"""What a description does not tell: it says of each thing alone where it is."""


class World:
    """Lessons about scenes that are made up, other ones for another seed."""

    def __init__(
        self, preprocessing: Preprocessing, *, seed: int, stamps: Stamps | None = None
    ) -> None:
        """`stamps` are those of the model that learns: its drawings are codes, not pictures."""
        self.preprocessing, self.seed, self.stamps = preprocessing, seed, stamps

    def count(self, kind: str) -> int:
        return ENDLESS

    def lesson(self, kind: str, number: int) -> Lesson:
        rng = random.Random(f"{kind} {self._seed(kind, number)}")
        scene = self.scene(kind, number)
        if kind == "text":
            return tell(scene, rng)
        picture = self._draw(kind, scene)
        if kind == "understanding":
            return ask(scene, rng, picture)
        lesson = order(scene, rng, picture)
        if self.stamps and rng.random() < BRIEF:
            return replace(lesson, learned=self.stamps.telling())
        return lesson

    def scene(self, kind: str, number: int) -> Scene:
        """What the lesson with a number is about."""
        seed = self._seed(kind, number)
        if kind == "generation":
            contrast = random.Random(f"sort {seed}").random() < CONTRAST
            return (sample_contrast if contrast else sample_drawing)(seed)
        return (
            sample_scene(seed, text_share=READ) if kind == "understanding" else sample_scene(seed)
        )

    def picture(self, kind: str, number: int) -> np.ndarray:
        """The picture of that lesson, framed, (S, S, 3) uint8, or codes where there are stamps."""
        return self._draw(kind, self.scene(kind, number))

    def _draw(self, kind: str, scene: Scene) -> np.ndarray:
        if kind == "generation" and self.stamps:
            return self.stamps.codes(scene)
        pixels = render(scene, DRAWN if kind == "generation" else TRAINING)
        return np.array(self.preprocessing.frame(Image.fromarray(pixels)))

    def _seed(self, kind: str, number: int) -> int:
        return FIRST + (len(KINDS) * self.seed + KINDS.index(kind)) * ENDLESS + number


def ask(scene: Scene, rng: random.Random, picture: np.ndarray) -> Lesson:
    """Questions about a picture of a scene."""
    number = QUESTIONS if scene.things else READ_QUESTIONS
    pairs = [(pair.question, pair.answer) for pair in questions(scene, rng, number)]
    return Lesson(f"scene {scene.seed}", tuple(pairs), picture=picture)


def order(scene: Scene, rng: random.Random, picture: np.ndarray) -> Lesson:
    """A picture of a scene to draw from one of its captions."""
    return Lesson(f"scene {scene.seed}", caption=caption(scene, rng), picture=picture)


def tell(scene: Scene, rng: random.Random) -> Lesson:
    """A description, and questions that it answers: language, numbers and places."""
    told = describe(scene, "long")
    pairs = [
        (f"{told}\n{pair.question}", pair.answer)
        for pair in questions(scene, rng, QUESTIONS)
        if not BESIDE.search(pair.question)
    ]
    return Lesson(f"scene {scene.seed}", tuple(pairs)) if pairs else tell(scene, rng)
