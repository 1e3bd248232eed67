"""Lessons of every kind for a tiny model, from numbers alone."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from janus_cli.train.lessons import Lesson
from janus_cli.train.mixture import Mixture
from janus_cli.train.sequences import Scribe
from janus_cli.train.stream import Course, Material
from tests.tiny_janus import SIDE, Tiny

COLORS = ("red", "green", "blue", "white")
LENGTH = 400


class Numbered:
    """A source whose n-th picture is n points, and whose words say so."""

    def __init__(self, count: int = 10**6) -> None:
        self.number = count

    def count(self, kind: str) -> int:
        return self.number

    def lesson(self, kind: str, number: int) -> Lesson:
        number %= self.number
        words = f"{number} {COLORS[number % 4]}"
        if kind == "text":
            return Lesson(words, (("how many?", words),))
        picture = np.random.default_rng(number).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
        if kind == "generation":
            return Lesson(words, caption=words, picture=picture)
        return Lesson(words, (("how many?", str(number)), ("what?", words)), picture=picture)


def make_course(tiny: Tiny, mixture: Mixture, *, source=None, masked=True, **options) -> Course:
    scribe = Scribe(tiny.writer, tiny.image_tokens, length=LENGTH, masked=masked)
    settings = {"seed": 0, "batch": 4} | options
    return Course([source or Numbered()], scribe, mixture, **settings)


def course(tiny: Tiny, mixture: Mixture, *, steps: int = 1, **options) -> list[Material]:
    """The materials of the first steps."""
    return list(islice(make_course(tiny, mixture, **options).stream(0), steps))


def write_picture(path: Path, color: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 60), color).save(path)
