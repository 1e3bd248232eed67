"""Orders for pictures in the six categories of GenEval, and what became of them.

An order is judged by checker.py alone. Each is drawn once, where GenEval draws four: pictures of
one prompt resemble each other, while those of as many orders are independent, which is what
intervals are made for, and tell more for the same work. The categories are those of GenEval (arXiv
2310.11513); so is the rule for who stands where.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...engine.decode import Drawing, Sampling
from ...engine.interface import Engine
from ..world.captions import SIDES, describe, describe_pair
from ..world.checker import Seen, SeenThing, look, matches
from ..world.scene import BACKGROUNDS, COLORS, KINDS, PICTOGRAMS, Scene, Thing
from .progress import show
from .scores import Row, share

CATEGORIES = (
    "single object",
    "two objects",
    "counting",
    "colors",
    "position",
    "color attribution",
)
PAIRED = ("two objects", "position", "color attribution")
OVERALL_BAR, GROUND_BAR = 80, 90
CLEARANCE = 0.1  # of both sizes together, by which things must be apart to be on a side
MOSTLY = 0.5  # of the way between them that must lead to that side


@dataclass(frozen=True)
class Order:
    """A prompt, and the scene without places that it asks for."""

    category: str
    scene: Scene
    side: str | None = None
    """Where the first thing is to stand from the second."""

    @property
    def prompt(self) -> str:
        return describe_pair(self.scene, self.side) if self.side else describe(self.scene, "normal")

    def filled_by(self, seen: Seen) -> bool:
        """Colors count where the category is about them, as in GenEval."""
        right = matches(self.scene, seen, colors=self.category.startswith("color"))
        if not (right and self.side):
            return right
        places = {thing.kind: thing for thing in seen.things}
        one, other = (places[thing.kind] for thing in self.scene.things)
        return stands(one, other, self.side)


@dataclass(frozen=True)
class Judged:
    """A picture (384, 384, 3) uint8 that was drawn to order."""

    order: Order
    picture: np.ndarray
    seen: Seen

    @property
    def right(self) -> bool:
        return self.order.filled_by(self.seen)


def stands(one: SeenThing, other: SeenThing, side: str) -> bool:
    """Whether one thing is on that side of another; between two sides it may be on both."""
    along = sum(
        way * max(abs(far) - CLEARANCE * (one.size + other.size), 0) * math.copysign(1, far)
        for way, far in zip(SIDES[side], (one.x - other.x, one.y - other.y), strict=True)
    )
    return along > MOSTLY * math.dist((one.x, one.y), (other.x, other.y))


def sample_order(number: int) -> Order:
    """Categories take turns; what is ordered is drawn by lot, so short prompts may come back."""
    category, rng = CATEGORIES[number % len(CATEGORIES)], random.Random(f"order {number}")
    kinds = rng.sample(KINDS if "color" in category else (*KINDS, *PICTOGRAMS), 2)
    colors = rng.sample(COLORS, 2)
    times = rng.randint(2, 5) if category == "counting" else 1
    groups = 2 if category in PAIRED else 1
    things = [
        Thing(kind, None if kind in PICTOGRAMS else color, 0, 0, 0, 0.0)
        for kind, color in list(zip(kinds, colors, strict=True))[:groups] * times
    ]
    scene = Scene(rng.choice(BACKGROUNDS), tuple(things), (), number)
    return Order(category, scene, rng.choice(tuple(SIDES)) if category == "position" else None)


def draw(
    engine: Engine, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling
) -> np.ndarray:
    """Pictures (N, 384, 384, 3) uint8, drawn at once, as imagine.py asks for them."""
    drawings = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        ids = engine.writer.drawing(prompt, engine.image_tokens)
        drawings.append(Drawing(ids, engine.writer.unconditional(ids), seed))
    columns = list(engine.draw(drawings, sampling))
    return engine.paint(torch.stack(columns, dim=1)).numpy()


def draw_orders(
    engine: Engine, count: int, sampling: Sampling, together: int | None = None
) -> Iterator[Judged]:
    """The first `count` orders, drawn and looked at, `together` at once or as many as fit.

    The same orders have the same seeds at every setting, so settings can be compared in pairs.
    """
    together = together or engine.most_pictures()
    orders = [sample_order(number) for number in range(count)]
    for start in range(0, count, together):
        show("drawings", start, count)
        some = orders[start : start + together]
        seeds = [order.scene.seed for order in some]
        pictures = draw(engine, [order.prompt for order in some], seeds, sampling)
        for order, picture in zip(some, pictures, strict=True):
            yield Judged(order, picture, look(picture))


def judge(judged: Sequence[Judged]) -> list[Row]:
    """A row for each category, one for all of them and one for the backgrounds."""
    right: dict[str, list[bool]] = {}
    for one in judged:
        right.setdefault(one.order.category, []).append(one.right)
    grounds = [one.seen.background == one.order.scene.background for one in judged]
    return [
        *(share(f"drawn: {name}", scores) for name, scores in right.items()),
        overall("drawn: overall", judged, OVERALL_BAR),
        share("drawn: background", grounds, GROUND_BAR),
    ]


def overall(measure: str, judged: Sequence[Judged], bar: float | None = None) -> Row:
    """The mean over all orders; GenEval's is over the categories, which have equal shares here."""
    return share(measure, [one.right for one in judged], bar)
