"""The codes that the embedded model learns to draw with: a stamp for every thing on every ground.

Drawings of `sample_drawing` are boards, on which a thing looks the same in every cell. Its codes do
not: what else is in a picture moves a fifth of them to others that look alike, which no caption
tells. So a thing gets the codes that it has most often, and a drawing is put together from those.
That takes no encoder and no picture; what a decoder makes of such codes is read back as right.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..engine.vq import VQTokenizer
from .codes import FrequentCodes
from .data import to_pixels
from .world.captions import cell_of
from .world.render import render
from .world.scene import (
    BACKGROUNDS,
    CELL,
    CLASSES,
    NEBULA,
    SIDE,
    Cell,
    Scene,
    sample_drawing,
    stand,
)
from .world.style import DRAWN

FILE = "stamps.npz"
CELLS = SIDE // CELL  # along a side of the board
TYPICAL = 80  # drawings in which the frequencies of codes are counted
TOLD = 3  # rows of the codes of a thing that show which it is; two do for all but five of 250
TIMES = 12  # pictures in which each thing is seen on each ground, among two others


@dataclass(frozen=True)
class Stamps:
    """Codes (backgrounds, G, G) of empty boards and (backgrounds, classes, S, S) of things.

    G codes are a side of a board, S = G / 3 one of a cell; both int16.
    """

    grounds: np.ndarray
    things: np.ndarray

    def codes(self, scene: Scene) -> np.ndarray:
        """The codes of a drawing, row by row, (G * G,) int64."""
        ground = BACKGROUNDS.index(scene.background)
        board = self.grounds[ground].astype(np.int64)
        for thing in scene.things:
            at = cell_codes(board, cell_of(thing))
            at[:] = self.things[ground, CLASSES.index((thing.color, thing.kind))]
        return board.flatten()

    def telling(self) -> list[int]:
        """The places of the codes of a drawing by which all of it can be told.

        They are the first rows of every row of cells. What is below them follows from them.
        """
        grid = self.grounds.shape[-1]
        rows = np.arange(grid) % (grid // CELLS) < TOLD
        return np.flatnonzero(np.repeat(rows, grid)).tolist()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / FILE, grounds=self.grounds, things=self.things)

    @classmethod
    def find(cls, folder: Path) -> Stamps | None:
        """Those that lie beside a model; None where it does not draw with any."""
        if not (folder / FILE).is_file():
            return None
        with np.load(folder / FILE) as arrays:
            return cls(arrays["grounds"], arrays["things"])


def cell_codes(board: np.ndarray, cell: Cell) -> np.ndarray:
    """The part of a board (G, G) that is a cell of it, as a view."""
    side = len(board) // CELLS
    column, row = cell
    return board[side * row : side * (row + 1), side * column : side * (column + 1)]


def make_stamps(vq: VQTokenizer) -> Stamps:
    """The codes that a tokenizer gives to things and grounds most often; a minute's work."""
    choose = FrequentCodes(vq, torch.cat([pixels_of(sample_drawing(n)) for n in range(TYPICAL)]))
    grounds, things = [], []
    for background in BACKGROUNDS:
        found: dict[tuple[str | None, str], list[np.ndarray]] = defaultdict(list)
        free: dict[Cell, list[np.ndarray]] = defaultdict(list)
        for scene in crowds(background):
            codes = choose(pixels_of(scene)).numpy()
            board = codes.reshape(math.isqrt(codes.size), -1)
            taken = {cell_of(thing): (thing.color, thing.kind) for thing in scene.things}
            for cell in product(range(CELLS), range(CELLS)):
                list_of = found[taken[cell]] if cell in taken else free[cell]
                list_of.append(cell_codes(board, cell))
        ground = np.zeros_like(board, dtype=np.int16)
        for cell, seen in free.items():
            cell_codes(ground, cell)[:] = most_frequent(seen)
        grounds.append(ground)
        things.append(np.stack([most_frequent(found[name]) for name in CLASSES]))
    return Stamps(np.stack(grounds), np.stack(things))


def most_frequent(seen: Sequence[np.ndarray]) -> np.ndarray:
    """The code that most of some cells have, for every place in them, int16."""
    counted = np.apply_along_axis(lambda codes: np.bincount(codes).argmax(), 0, np.stack(seen))
    return counted.astype(np.int16)


def pixels_of(scene: Scene) -> Tensor:
    """A drawing as the tokenizer takes it, (1, 3, S, S)."""
    return to_pixels(torch.from_numpy(render(scene, DRAWN))[None])


def crowds(background: str) -> Iterator[Scene]:
    """Boards of three things each, on which every class comes as often as in `TIMES` rounds."""
    rng = random.Random(f"stamps {background}")
    cells = [(column, row) for column in range(CELLS) for row in range(CELLS)]
    for _ in range(TIMES):
        classes = rng.sample(CLASSES, len(CLASSES))
        while classes:
            some, classes = classes[:CELLS], classes[CELLS:]
            things = map(stand, some, rng.sample(cells, len(some)))
            yield Scene(background, tuple(things), (), NEBULA)
