"""Islands: what stands out from the background of a picture, as sets of its cells."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from .scene import SIDE

CELL = 3  # pixels; half the least gap between two things, so that one clear cell always parts them
GRID = SIDE // CELL
REACH = 9  # pixels between the parts of one pictogram whose outline is lost in the dark

Island = np.ndarray  # (GRID, GRID) bool


def shifted(grid: np.ndarray) -> Iterator[np.ndarray]:
    """The grid and its eight copies moved by one cell, with zeros moved in."""
    padded = np.pad(grid, 1)
    height, width = grid.shape
    for down, across in product(range(3), repeat=2):
        yield padded[down : down + height, across : across + width]


def find_islands(raised: np.ndarray) -> list[Island]:
    """The connected components, where cells that touch at a corner are connected."""
    left = set(map(tuple, np.argwhere(raised).tolist()))
    islands = []
    while left:
        island, edge = np.zeros_like(raised), [left.pop()]
        while edge:
            row, column = edge.pop()
            island[row, column] = True
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            edge += around
        islands.append(island)
    return islands


def box_of(island: Island) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels."""
    rows, columns = np.flatnonzero(island.any(1)), np.flatnonzero(island.any(0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return int(left) * CELL, int(top) * CELL, int(right) * CELL, int(bottom) * CELL


def are_near(one: Island, other: Island) -> bool:
    left, top, right, bottom = box_of(one)
    before, over, after, under = box_of(other)
    return max(before - right, left - after, over - bottom, top - under) <= REACH


def side_of(island: Island) -> int:
    left, top, right, bottom = box_of(island)
    return max(right - left, bottom - top)


def grow(cores: list[Island], island: Island) -> list[Island]:
    """The cores grown until they share out the island."""
    owner = sum((number * core for number, core in enumerate(cores, 1)), np.zeros(island.shape))
    for _ in range(GRID):
        free = island & (owner == 0)
        if not free.any():
            break
        owner = np.where(free, np.max(list(shifted(owner)), axis=0), owner)
    return [owner == number for number in range(1, len(cores) + 1)]
