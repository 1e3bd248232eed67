"""What a picture of the small world shows, told from its pixels alone; it knows no networks.

Things are found as islands on the background and named by analysis through synthesis: the kind,
tilt and color whose rendering explains most of an island. It judges drawings that are blurred and
a little wrong, so an island that nothing explains well is seen as a thing of kind "unclear".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from .islands import CELL, GRID, Island, are_near, box_of, find_islands, grow, shifted, side_of
from .likeness import explain, patch_indices, pictograms_on
from .render import PALETTE
from .scene import BACKGROUNDS, COLORS, PICTOGRAMS, SIDE, Scene

NEBULA = np.array(((20, 8, 44), (76, 34, 112)), np.float32)  # its darkest and lightest clouds
ACCEPTED = 75  # how far a color may be from a background and still be one
LEAST_CONTRAST = 48  # the palest thing, purple on gray, is 103 from its background
LEAST_PEAK = {"nebula": 95, "plain": 78}  # blemishes contrast less, the best of a thing more
EDGE_SHARE = 0.45  # of the contrast of what is next to it, so that blur does not join two things
LEAST_SIDE = 28  # pixels; a thing has at least 44
LEAST_PART = 3  # cells; stars are smaller
MOST_ISLANDS = 20  # a picture with more of them shows nothing anyway
LEAST_FIT = 0.55  # share of an island's contrast that its best rendering explains
STEPS = (0.05, 0.05, 0.05, 0.05, 0.025, 0.025)  # of the search for place and size, in sides
GROWTH = 1.7  # how much larger than its island a thing may be
WHOLE_FIT = 0.85  # above it, an island is not tried as several things
PART_FIT = 0.8  # what several things must reach instead, each of them
UNCLEAR = "unclear"


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
        around = np.max(list(shifted(around)), axis=0)
    raised = contrast > np.maximum(LEAST_CONTRAST, EDGE_SHARE * around)
    islands = [part for part in find_islands(raised) if part.sum() >= LEAST_PART]
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
            if pair in tried or not are_near(one[0], other[0]):
                continue
            tried.add(pair)
            if union := _join(cells, one, other, islands):
                named = [union, *(n for n in named if n is not one and n is not other)]
                first = int(union[0].argmax())
                tried = {pair for pair in tried if first not in pair}
                break
        else:
            break
    return [thing for island, thing in named if side_of(island) >= LEAST_SIDE]


Named = tuple[Island, SeenThing]


def _name_parts(cells: np.ndarray, island: Island, islands: list[Island]) -> list[Named]:
    """An island as one thing, or as several that touch where each of them is clearer alone."""
    whole = _name(cells, island, islands)
    core = island
    for _ in range(4):
        core = np.min(list(shifted(core)), axis=0)
        cores = find_islands(core)
        if whole.fit > WHOLE_FIT or not cores:
            break
        if len(cores) > 1:
            parts = grow(cores, island)
            others = [*parts, *(other for other in islands if other is not island)]
            named = [(part, _name(cells, part, others)) for part in parts]
            things = [thing for part, thing in named if side_of(part) >= LEAST_SIDE]
            sound = all((t.color in COLORS or t.kind in PICTOGRAMS) for t in things)
            if len(things) > 1 and sound and min(t.fit for t in things) > max(whole.fit, PART_FIT):
                return named
    return [(island, whole)]


def _join(cells: np.ndarray, one: Named, other: Named, islands: list[Island]) -> Named | None:
    """Two islands as one thing, where one has the other in it or both are a pictogram."""
    part, whole = sorted((one, other), key=lambda named: int(named[0].sum()))
    if whole[1].kind != UNCLEAR and _inside(part[0], whole[1]):
        return one[0] | other[0], whole[1]
    if side_of(one[0] | other[0]) > 3 * SIDE // 8:
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


def _name(cells: np.ndarray, island: Island, islands: list[Island]) -> SeenThing:
    """The kind and color whose rendering explains most of an island, and where it is."""
    left, top, right, bottom = box_of(island)
    size = max(right - left, bottom - top)
    best = SeenThing(UNCLEAR, None, (left + right) // 2, (top + bottom) // 2, size, 0.0)
    others = np.zeros_like(island)
    for other in islands:
        if side_of(other) >= LEAST_SIDE and not (other & island).any():
            others |= other
    near = np.max(list(shifted(island)), axis=0)
    others = np.max(list(shifted(others)), axis=0) & ~near
    ground = _ground(cells, near, others, patch_indices(best.x, best.y, size))
    contrast = np.where(others[..., None], 0, cells - ground)  # (GRID, GRID, 3)
    drawn = pictograms_on(ground)
    explained = 0.0
    for step in STEPS:  # the box may be that of a part, or too tight where edges are dim
        last = best
        shifts = list(product((-step, 0, step), repeat=2))
        for stretch in (1 - 1.6 * step, 1, 1 + 1.6 * step, 1 + 5 * step):
            side = min(last.size * stretch, size * GROWTH)
            spots = [(last.x + i * last.size, last.y + j * last.size) for i, j in shifts]
            patches = np.stack([contrast[patch_indices(*spot, side)] for spot in spots])
            found = explain(patches.reshape(len(spots), -1, 3), drawn)
            if found.explained * side**2 > explained:
                explained = found.explained * side**2
                color = None if found.color is None else _nearest(found.color + ground)
                x, y = (round(v) for v in spots[found.patch])
                best = SeenThing(found.kind, color, x, y, round(side), found.fit)
    return best if best.fit >= LEAST_FIT else replace(best, kind=UNCLEAR)


def _ground(
    cells: np.ndarray, near: Island, others: Island, spot: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """The median color of the background round an island."""
    free = ~(near | others)
    local = free[spot]
    chosen = cells[spot][local] if local.sum() >= 20 else cells[free]
    return np.asarray(np.median(chosen, axis=0))


def _nearest(color: np.ndarray) -> str:
    return min(PALETTE, key=lambda name: float(np.sum((color - PALETTE[name]) ** 2)))
