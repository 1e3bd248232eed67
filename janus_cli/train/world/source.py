"""The picture world as a source of lessons: endless, of every kind, from seeds of its own."""

from __future__ import annotations

import random
import re

import numpy as np
from PIL import Image

from ...engine.pixels import Preprocessing
from ..data import TRAINING_SEEDS
from ..lessons import KINDS, Lesson
from .captions import caption, describe
from .questions import questions
from .render import render
from .scene import Scene, sample_drawing, sample_scene
from .style import DRAWN, TRAINING, Style

QUESTIONS = 12  # about one picture, or about one description
READ = 0.25  # share of the pictures to read that show a string
READ_QUESTIONS = 4  # about such a picture: there is little to ask, and more pictures teach more
ENDLESS = 1_000_000  # scenes of a kind before those of the next kind begin
FIRST = 10 * TRAINING_SEEDS  # the training seeds below are those of the encoders' own stages
BESIDE = re.compile(r"\b(left|right) of\b|\babove\b|\bbelow\b")
"""What a description does not tell: it says of each thing alone where it is."""


class World:
    """Lessons about scenes that are made up, other ones for another seed."""

    def __init__(self, preprocessing: Preprocessing, *, seed: int) -> None:
        self.preprocessing, self.seed = preprocessing, seed

    def count(self, kind: str) -> int:
        return ENDLESS

    def lesson(self, kind: str, number: int) -> Lesson:
        seed = FIRST + (len(KINDS) * self.seed + KINDS.index(kind)) * ENDLESS + number
        rng = random.Random(f"{kind} {seed}")
        make = {
            "understanding": self._understanding,
            "text": self._text,
            "generation": self._generation,
        }
        return make[kind](seed, rng)

    def _understanding(self, seed: int, rng: random.Random) -> Lesson:
        scene = sample_scene(seed, text_share=READ)
        number = QUESTIONS if scene.things else READ_QUESTIONS
        pairs = [(pair.question, pair.answer) for pair in questions(scene, rng, number)]
        return Lesson(f"scene {seed}", tuple(pairs), picture=self._picture(scene))

    def _text(self, seed: int, rng: random.Random) -> Lesson:
        """A description, and questions that it answers: language, numbers and places."""
        scene = sample_scene(seed)
        told = describe(scene, "long")
        pairs = [
            (f"{told}\n{pair.question}", pair.answer)
            for pair in questions(scene, rng, QUESTIONS)
            if not BESIDE.search(pair.question)
        ]
        return Lesson(f"scene {seed}", tuple(pairs)) if pairs else self._text(seed, rng)

    def _generation(self, seed: int, rng: random.Random) -> Lesson:
        scene = sample_drawing(seed)
        picture = self._picture(scene, DRAWN)
        return Lesson(f"scene {seed}", caption=caption(scene, rng), picture=picture)

    def _picture(self, scene: Scene, style: Style = TRAINING) -> np.ndarray:
        return np.array(self.preprocessing.frame(Image.fromarray(render(scene, style))))
