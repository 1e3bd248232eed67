"""What a picture of the small world shows, told from its pixels alone; it knows no networks.

Things are found as islands on the background and named by analysis through synthesis: the kind,
tilt and color whose rendering explains most of an island. It judges drawings that are blurred and
a little wrong, so an island that nothing explains well is seen as a thing of kind "unclear".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, product

import numpy as np

from .render import PALETTE, render
from .scene import BACKGROUNDS, KINDS, PICTOGRAMS, SIDE, TILT, Scene, Thing

CELL = 3  # pixels; half the least gap between two things, so that one clear cell always parts them
GRID = SIDE // CELL
NEBULA = np.array(((20, 8, 44), (76, 34, 112)), np.float32)  # its darkest and lightest clouds
ACCEPTED = 75  # how far a color may be from a background and still be one
LEAST_CONTRAST = 48  # the palest thing, purple on gray, is 103 from its background
EDGE_SHARE = 0.45  # of the contrast of what is next to it, so that blur does not join two things
LEAST_SIDE = 28  # pixels; a thing has at least 44
LEAST_PART = 3  # cells; stars are smaller
REACH = 9  # pixels between the parts of one pictogram whose outline is lost in the dark
LEAST_FIT = 0.55  # share of an island's contrast that its best rendering explains
PATCH, MARGIN = 24, 1.2  # samples along a patch's side, and its side in sides of the thing
UNCLEAR = "unclear"

Island = np.ndarray  # (GRID, GRID) bool


@dataclass(frozen=True)
class SeenThing:
    """One thing: kind "unclear" is like no other, color None is a pictogram's."""

    kind: str
    color: str | None  # a name of PALETTE, so perhaps one that no thing should have
    x: int  # center
    y: int
    size: int
    fit: float  # share of the contrast that kind and color explain, up to 1


@dataclass(frozen=True)
class Seen:
    """What a picture shows; the background is "unclear" where no name fits."""

    background: str
    things: tuple[SeenThing, ...]


def matches(scene: Scene, seen: Seen, *, colors: bool = True) -> bool:
    """Whether exactly the things of a scene are seen, wherever they are; nothing else may be."""
    wanted = Counter((t.color if colors else None, t.kind) for t in scene.things)
    return wanted == Counter((t.color if colors else None, t.kind) for t in seen.things)


def look(picture: np.ndarray) -> Seen:
    """Background and things of a picture (384, 384, 3) uint8."""
    cells = picture.reshape(GRID, CELL, GRID, CELL, 3).swapaxes(1, 2).reshape(GRID, GRID, -1, 3)
    middle = np.median(cells, axis=2).astype(np.float32)  # (GRID, GRID, 3), without lone stars
    background, color = _find_background(middle)
    contrast = _distance(middle, background, color)
    around = contrast
    for _ in range(2):
        around = np.max(list(_shifts(around)), axis=0)
    raised = contrast > np.maximum(LEAST_CONTRAST, EDGE_SHARE * around)
    islands = [part for part in _islands(raised) if part.sum() >= LEAST_PART]
    seen = _name_all(cells.mean(2, dtype=np.float32), islands)
    return Seen(background, tuple(sorted(seen, key=lambda thing: (thing.y, thing.x))))


# Background


def _find_background(cells: np.ndarray) -> tuple[str, np.ndarray]:
    """The background that most cells are near to, and the median color of those cells."""
    distances = np.stack([_distance(cells, b, np.array(PALETTE.get(b, 0))) for b in BACKGROUNDS])
    nearest, accepted = distances.argmin(0), distances.min(0) < ACCEPTED
    votes = np.bincount(nearest[accepted], minlength=len(BACKGROUNDS))
    if votes.max() < GRID * GRID / 4:
        return UNCLEAR, np.median(cells.reshape(-1, 3), axis=0)
    winner = int(votes.argmax())
    return BACKGROUNDS[winner], np.median(cells[accepted & (nearest == winner)], axis=0)


def _distance(cells: np.ndarray, background: str, color: np.ndarray) -> np.ndarray:
    """How far every cell's color is from the background's; all clouds of a nebula are near."""
    if background != "nebula":
        return np.asarray(np.linalg.norm(cells - color, axis=-1))
    low, along = NEBULA[0], NEBULA[1] - NEBULA[0]
    place = np.clip((cells - low) @ along / (along @ along), -0.1, 1.1)
    return np.asarray(np.linalg.norm(cells - low - place[..., None] * along, axis=-1))


# Islands


def _shifts(grid: np.ndarray) -> Iterator[np.ndarray]:
    """The grid and its eight copies moved by one cell, with zeros moved in."""
    padded = np.pad(grid, 1)
    height, width = grid.shape
    for down, across in product(range(3), repeat=2):
        yield padded[down : down + height, across : across + width]


def _islands(raised: np.ndarray) -> list[Island]:
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


def _box(island: Island) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels."""
    rows, columns = np.flatnonzero(island.any(1)), np.flatnonzero(island.any(0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return int(left) * CELL, int(top) * CELL, int(right) * CELL, int(bottom) * CELL


def _near(one: Island, other: Island) -> bool:
    left, top, right, bottom = _box(one)
    before, over, after, under = _box(other)
    return max(before - right, left - after, over - bottom, top - under) <= REACH


# Names


def _name_all(cells: np.ndarray, islands: list[Island]) -> list[SeenThing]:
    """Name the islands; those that make up a pictogram together are one, crumbs are none."""
    named = [(island, _name(cells, island, islands)) for island in islands]
    joined = True
    while joined:
        joined = False
        for one, other in combinations(named, 2):
            if _near(one[0], other[0]) and (union := _join(cells, one, other, islands)):
                named = [union, *(n for n in named if n is not one and n is not other)]
                joined = True
                break
    return [thing for island, thing in named if _side(island) >= LEAST_SIDE]


Named = tuple[Island, SeenThing]


def _join(cells: np.ndarray, one: Named, other: Named, islands: list[Island]) -> Named | None:
    """Two parts as one pictogram, if that explains them better than the larger part alone."""
    if _side(one[0] | other[0]) > 3 * SIDE // 8:
        return None
    island = one[0] | other[0]
    thing = _name(cells, island, islands)
    larger = max(one, other, key=lambda named: named[0].sum())[1]
    whole = thing.kind in PICTOGRAMS and (larger.kind not in PICTOGRAMS or thing.fit > larger.fit)
    return (island, thing) if whole else None


def _side(island: Island) -> int:
    left, top, right, bottom = _box(island)
    return max(right - left, bottom - top)


def _name(cells: np.ndarray, island: Island, islands: list[Island]) -> SeenThing:
    """The kind and color whose rendering explains most of an island."""
    left, top, right, bottom = _box(island)
    x, y, size = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)
    others = np.zeros_like(island)
    for other in islands:
        if not (other & island).any():
            others |= other
    near = np.max(list(_shifts(island)), axis=0)
    others = np.max(list(_shifts(others)), axis=0) & ~near
    ground = _ground(cells, near, others, _patch_indices(x, y, size))
    contrast = np.where(others[..., None], 0, cells - ground)  # (GRID, GRID, 3)
    shapes, shape_covers, pictograms, pictogram_covers, pictogram_colors = _templates()
    best = SeenThing(UNCLEAR, None, round(x), round(y), size, 0.0)
    for stretch, across, down in product((0.92, 1.0, 1.08), (-0.05, 0, 0.05), (-0.05, 0, 0.05)):
        spot = _patch_indices(x + across * size, y + down * size, size * stretch)
        patch = contrast[spot].reshape(-1, 3)  # (P, 3)
        energy = float((patch**2).sum()) + 1e-6
        sums = shape_covers @ patch  # (S, 3)
        lengths = (shape_covers**2).sum(1)
        fits = (sums**2).sum(1) / lengths / energy
        index = int(fits.argmax())
        if fits[index] > best.fit:
            color = _nearest(sums[index] / lengths[index] + ground)
            best = replace(best, kind=shapes[index], color=color, fit=float(fits[index]))
        drawn = pictogram_colors - pictogram_covers[..., None] * ground  # (S, P, 3)
        fits = 1 - ((drawn - patch) ** 2).sum((1, 2)) / energy
        index = int(fits.argmax())
        if fits[index] > best.fit:
            best = replace(best, kind=pictograms[index], color=None, fit=float(fits[index]))
    return best if best.fit >= LEAST_FIT else replace(best, kind=UNCLEAR)


def _ground(
    cells: np.ndarray, near: Island, others: Island, spot: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """The median color of the background round an island."""
    free = ~(near | others)
    local = free[spot]
    chosen = cells[spot][local] if local.sum() >= 20 else cells[free]
    return np.asarray(np.median(chosen, axis=0))


def _patch_indices(x: float, y: float, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cells that sample a square a little larger than a thing."""
    along = ((np.arange(PATCH) + 0.5) / PATCH - 0.5) * size * MARGIN
    rows, columns = ((along + center) / CELL for center in (y, x))
    rows, columns = (np.clip(v.astype(int), 0, GRID - 1) for v in (rows, columns))
    return rows[:, None], columns[None, :]


def _nearest(color: np.ndarray) -> str:
    return min(PALETTE, key=lambda name: float(np.sum((color - PALETTE[name]) ** 2)))


@lru_cache(maxsize=1)
def _templates() -> tuple[list[str], np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Kinds and covers (S, P) of the shapes; those and covered colors (S, P, 3) of pictograms."""
    tilts = np.linspace(-TILT, TILT, 5)
    shapes = [(kind, *_template(kind, tilt)) for kind in KINDS for tilt in tilts]
    pictograms = [(kind, *_template(kind, tilt)) for kind in PICTOGRAMS for tilt in tilts]
    return (
        [kind for kind, _, _ in shapes],
        np.stack([cover for _, cover, _ in shapes]),
        [kind for kind, _, _ in pictograms],
        np.stack([cover for _, cover, _ in pictograms]),
        np.stack([colors for _, _, colors in pictograms]),
    )


def _template(kind: str, tilt: float) -> tuple[np.ndarray, np.ndarray]:
    """How much of every sample a thing covers (P,), and its color times that (P, 3)."""
    size, each = 100, 5
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
    both = both.reshape(PATCH, each, PATCH, each, 4).mean((1, 3)).reshape(-1, 4)
    return both[:, 0], both[:, 1:]
