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
from .scene import BACKGROUNDS, COLORS, KINDS, PICTOGRAMS, SIDE, TILT, Scene, Thing

CELL = 3  # pixels; half the least gap between two things, so that one clear cell always parts them
GRID = SIDE // CELL
NEBULA = np.array(((20, 8, 44), (76, 34, 112)), np.float32)  # its darkest and lightest clouds
ACCEPTED = 75  # how far a color may be from a background and still be one
LEAST_CONTRAST = 48  # the palest thing, purple on gray, is 103 from its background
LEAST_PEAK = {"nebula": 95, "plain": 78}  # blemishes contrast less, the best of a thing more
EDGE_SHARE = 0.45  # of the contrast of what is next to it, so that blur does not join two things
LEAST_SIDE = 28  # pixels; a thing has at least 44
LEAST_PART = 3  # cells; stars are smaller
REACH = 9  # pixels between the parts of one pictogram whose outline is lost in the dark
MOST_ISLANDS = 20  # a picture with more of them shows nothing anyway
LEAST_FIT = 0.55  # share of an island's contrast that its best rendering explains
STEPS = (0.05, 0.05, 0.05, 0.05, 0.025, 0.025)  # of the search for place and size, in sides
GROWTH = 1.7  # how much larger than its island a thing may be
WHOLE_FIT = 0.85  # above it, an island is not tried as several things
PART_FIT = 0.8  # what several things must reach instead, each of them
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
    least = LEAST_PEAK["nebula" if background == "nebula" else "plain"]
    islands = [part for part in islands if np.quantile(contrast[part], 0.8) > least]
    islands = sorted(islands, key=np.sum, reverse=True)[:MOST_ISLANDS]
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
    named = [part for island in islands for part in _name_parts(cells, island, islands)]
    tried: set[tuple[int, int]] = set()
    while True:
        for one, other in combinations(named, 2):
            pair = (
                int(one[0].argmax()),
                int(other[0].argmax()),
            )  # islands differ in their first cell
            if pair in tried or not _near(one[0], other[0]):
                continue
            tried.add(pair)
            if union := _join(cells, one, other, islands):
                named = [union, *(n for n in named if n is not one and n is not other)]
                first = int(union[0].argmax())
                tried = {pair for pair in tried if first not in pair}
                break
        else:
            break
    return [thing for island, thing in named if _side(island) >= LEAST_SIDE]


Named = tuple[Island, SeenThing]


def _name_parts(cells: np.ndarray, island: Island, islands: list[Island]) -> list[Named]:
    """An island as one thing, or as several that touch where each of them is clearer alone."""
    whole = _name(cells, island, islands)
    core = island
    for _ in range(4):
        core = np.min(list(_shifts(core)), axis=0)
        cores = _islands(core)
        if whole.fit > WHOLE_FIT or not cores:
            break
        if len(cores) > 1:
            parts = _grow(cores, island)
            others = [*parts, *(other for other in islands if other is not island)]
            named = [(part, _name(cells, part, others)) for part in parts]
            things = [thing for part, thing in named if _side(part) >= LEAST_SIDE]
            sound = all((t.color in COLORS or t.kind in PICTOGRAMS) for t in things)
            if len(things) > 1 and sound and min(t.fit for t in things) > max(whole.fit, PART_FIT):
                return named
    return [(island, whole)]


def _grow(cores: list[Island], island: Island) -> list[Island]:
    """The cores grown until they share out the island."""
    owner = sum((number * core for number, core in enumerate(cores, 1)), np.zeros(island.shape))
    for _ in range(GRID):
        free = island & (owner == 0)
        if not free.any():
            break
        owner = np.where(free, np.max(list(_shifts(owner)), axis=0), owner)
    return [owner == number for number in range(1, len(cores) + 1)]


def _join(cells: np.ndarray, one: Named, other: Named, islands: list[Island]) -> Named | None:
    """Two islands as one thing, where one has the other in it or both are a pictogram."""
    part, whole = sorted((one, other), key=lambda named: int(named[0].sum()))
    if whole[1].kind != UNCLEAR and _inside(part[0], whole[1]):
        return one[0] | other[0], whole[1]
    if _side(one[0] | other[0]) > 3 * SIDE // 8:
        return None
    thing = _name(cells, one[0] | other[0], islands)
    if thing.kind not in PICTOGRAMS:
        return None
    if whole[1].kind in PICTOGRAMS and thing.fit <= whole[1].fit:
        return None
    return one[0] | other[0], thing


def _inside(part: Island, thing: SeenThing) -> bool:
    """Whether most of a part lies in the box of a thing."""
    rows, columns = np.nonzero(part)
    half = thing.size / 2
    across = np.abs((columns + 0.5) * CELL - thing.x) < half
    down = np.abs((rows + 0.5) * CELL - thing.y) < half
    return bool((across & down).mean() > 0.6)


def _side(island: Island) -> int:
    left, top, right, bottom = _box(island)
    return max(right - left, bottom - top)


def _name(cells: np.ndarray, island: Island, islands: list[Island]) -> SeenThing:
    """The kind and color whose rendering explains most of an island, and where it is."""
    left, top, right, bottom = _box(island)
    size = max(right - left, bottom - top)
    best = SeenThing(UNCLEAR, None, (left + right) // 2, (top + bottom) // 2, size, 0.0)
    others = np.zeros_like(island)
    for other in islands:
        if _side(other) >= LEAST_SIDE and not (other & island).any():
            others |= other
    near = np.max(list(_shifts(island)), axis=0)
    others = np.max(list(_shifts(others)), axis=0) & ~near
    ground = _ground(cells, near, others, _patch_indices(best.x, best.y, size))
    contrast = np.where(others[..., None], 0, cells - ground)  # (GRID, GRID, 3)
    drawn = _pictures_on(ground)
    explained = 0.0
    for step in STEPS:  # the box may be that of a part, or too tight where edges are dim
        last = best
        shifts = list(product((-step, 0, step), repeat=2))
        for stretch in (1 - 1.6 * step, 1, 1 + 1.6 * step, 1 + 5 * step):
            side = min(last.size * stretch, size * GROWTH)
            spots = [(last.x + i * last.size, last.y + j * last.size) for i, j in shifts]
            patches = np.stack([contrast[_patch_indices(*spot, side)] for spot in spots])
            found = _explain(patches.reshape(len(spots), -1, 3), drawn)
            if found.explained * side**2 > explained:
                explained = found.explained * side**2
                color = None if found.color is None else _nearest(found.color + ground)
                x, y = (round(v) for v in spots[found.patch])
                best = SeenThing(found.kind, color, x, y, round(side), found.fit)
    return best if best.fit >= LEAST_FIT else replace(best, kind=UNCLEAR)


@dataclass(frozen=True)
class _Explanation:
    """The rendering that takes most contrast away from one of several patches."""

    patch: int
    kind: str
    color: np.ndarray | None  # against the background
    explained: float  # squared contrast
    fit: float  # share of the patch's squared contrast


def _explain(patches: np.ndarray, drawn: np.ndarray) -> _Explanation:
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
    return _Explanation(int(patch), kind, color, explained, fit)


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
    rows, columns = (np.clip((along + center) / CELL, 0, GRID - 1).astype(int) for center in (y, x))
    return rows[:, None], columns


def _nearest(color: np.ndarray) -> str:
    return min(PALETTE, key=lambda name: float(np.sum((color - PALETTE[name]) ** 2)))


WAYS = tuple(product(np.linspace(-TILT, TILT, 5).tolist(), (0, 2)))  # tilt and softness


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


def _pictures_on(ground: np.ndarray) -> np.ndarray:
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
