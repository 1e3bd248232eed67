"""Which thing of the world a patch of a picture is most like: analysis through synthesis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from .islands import CELL, GRID
from .render import render
from .scene import KINDS, PICTOGRAMS, SIDE, TILT, Scene, Thing

PATCH, MARGIN = 24, 1.2  # samples along a patch's side, and its side in sides of the thing
WAYS = tuple(product(np.linspace(-TILT, TILT, 5).tolist(), (0, 2)))  # tilt and softness


@dataclass(frozen=True)
class Explanation:
    """The rendering that takes most contrast away from one of several patches."""

    patch: int
    kind: str
    color: np.ndarray | None  # against the background
    explained: float  # squared contrast
    fit: float  # share of the patch's squared contrast


def explain(patches: np.ndarray, drawn: np.ndarray) -> Explanation:
    """Explain one of the patches (N, P, 3); `drawn` are pictograms against the background."""
    shapes, covers, lengths = _shape_templates()
    sums = covers @ patches  # (N, S, 3)
    plain = (sums**2).sum(2) / lengths  # (N, S)
    flat = patches.reshape(len(patches), -1)
    colored = 2 * flat @ drawn.T - (drawn**2).sum(1)  # (N, S)
    if colored.max() > plain.max():
        patch, index = np.unravel_index(int(colored.argmax()), colored.shape)
        kind, color = _pictogram_templates()[0][index], None
    else:
        patch, index = np.unravel_index(int(plain.argmax()), plain.shape)
        kind, color = shapes[index], sums[patch, index] / lengths[index]
    explained = float(max(colored.max(), plain.max()))
    fit = explained / (float((flat[patch] ** 2).sum()) + 1e-6)
    return Explanation(int(patch), kind, color, explained, fit)


def patch_indices(x: float, y: float, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cells that sample a square a little larger than a thing."""
    along = ((np.arange(PATCH) + 0.5) / PATCH - 0.5) * size * MARGIN
    rows, columns = (np.clip((along + center) / CELL, 0, GRID - 1).astype(int) for center in (y, x))
    return rows[:, None], columns


@lru_cache(maxsize=1)
def _shape_templates() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Kinds, covers (S, P), and their squared lengths (S,)."""
    every = list(product(KINDS, WAYS))
    covers = np.stack([_template(kind, *way)[:, 0] for kind, way in every])
    return [kind for kind, _ in every], covers, (covers**2).sum(1)


@lru_cache(maxsize=1)
def _pictogram_templates() -> tuple[list[str], np.ndarray]:
    """Kinds, and covers and colors (S, P, 4)."""
    every = list(product(PICTOGRAMS, WAYS))
    return [kind for kind, _ in every], np.stack([_template(kind, *way) for kind, way in every])


def pictograms_on(ground: np.ndarray) -> np.ndarray:
    """The pictograms against a background color, (S, P * 3)."""
    templates = _pictogram_templates()[1]
    return np.reshape(templates[..., 1:] - templates[..., :1] * ground, (len(templates), -1))


def _template(kind: str, tilt: float, softness: int) -> np.ndarray:
    """How much of every sample a thing covers, and its color times that, (P, 4)."""
    each = 5  # pixels for one sample
    size = round(PATCH * each / MARGIN)
    thing = Thing(kind, "red" if kind in KINDS else None, SIDE // 2, SIDE // 2, size, float(tilt))
    start = (SIDE - PATCH * each) // 2
    stop = start + PATCH * each
    # The same seed jitters both backgrounds alike; what differs is what shines through.
    light, dark = (
        render(Scene(background, (thing,), (), 0)).astype(np.float32)
        for background in ("white", "black")
    )
    through = ((light - dark) / (light[0, 0] - dark[0, 0])).mean(2)[..., None]
    colors = dark - through * dark[0, 0]
    both = np.concatenate((1 - through, colors), axis=2)[start:stop, start:stop]
    both = both.reshape(PATCH, each, PATCH, each, 4).mean((1, 3))
    for _ in range(softness):
        for axis in (0, 1):
            both = (np.roll(both, 1, axis) + 2 * both + np.roll(both, -1, axis)) / 4
    return np.asarray(both.reshape(-1, 4))
