"""Pictures of the world as encoders see them: encoded once, learned from again and again.

A step on fresh pictures spends two thirds of its time in the encoders. While these are frozen, the
decoder learns from some thousand pictures that it is asked anew about each time around.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from .codes import codes_of_drawings
from .data import stream
from .lessons import Lesson
from .losses import codes_of, features_of
from .pupil import Pupil
from .world.source import ENDLESS, World, ask, order

FILES = {"understanding": "features.npy", "generation": "codes.npy"}
AT_ONCE = 8  # pictures


class Pool:
    """The first pictures of a world, encoded, with other questions and captions each time."""

    def __init__(self, world: World, folder: Path) -> None:
        """`folder` is one that `write_pool` wrote for this world."""
        self.world, self.folder = world, folder

    def count(self, kind: str) -> int:
        return ENDLESS

    def lesson(self, kind: str, number: int) -> Lesson:
        if kind not in FILES or (kind == "generation" and self.world.stamps):
            return self.world.lesson(kind, number)
        encoded = np.load(self.folder / FILES[kind], mmap_mode="r")
        place = number % len(encoded)
        rng = random.Random(f"{kind} {self.world.seed} {number}")
        make = ask if kind == "understanding" else order
        return make(self.world.scene(kind, place), rng, np.array(encoded[place]))


@torch.no_grad()
def write_pool(
    pupil: Pupil, world: World, folder: Path, counts: Mapping[str, int], *, workers: int = 0
) -> None:
    """Encode the first pictures of a world with the encoders of a model, into a folder.

    Args:
        counts: how many pictures of understanding and of generation.
    """
    aside = folder.with_name(f"{folder.name}.part")
    aside.mkdir(parents=True, exist_ok=True)
    for kind, count in counts.items():
        encode, shape, dtype = encoder(pupil, kind)
        encoded = open_memmap(aside / FILES[kind], "w+", dtype, (count, *shape))
        draw = partial(world.picture, kind)
        batches = stream(draw, batch=AT_ONCE, first=0, workers=workers)
        for first, pictures in zip(range(0, count, AT_ONCE), batches, strict=False):
            rows = encode(pictures.to(pupil.model.device)).cpu().numpy()
            encoded[first : first + AT_ONCE] = rows[: count - first]
        encoded.flush()
    aside.rename(folder)


def encoder(
    pupil: Pupil, kind: str
) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...], type[np.generic]]:
    """What a kind's pictures are encoded with, and the shape and type of what comes out of it."""
    model = pupil.model
    config = model.config
    if kind == "generation":
        choose = codes_of_drawings(model.vq)
        return lambda pictures: codes_of(pictures, choose), (config.image_tokens,), np.int32
    shape = (config.vision.tokens, config.vision.hidden_size)
    return lambda pictures: features_of(model, pictures, pupil.preprocessing), shape, np.float16
