"""Whether a model sees in its own pictures what the checker sees in them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

from ...engine.interface import Engine
from ..world.checker import UNCLEAR, Seen
from ..world.questions import ASKERS, Question
from ..world.scene import COLORS, PICTOGRAMS, SIDE, Scene, Thing
from .drawings import Judged
from .exams import TRIES, answer
from .scores import Row, share

SORTS = ("number", "color", "presence", "position", "background")
BAR = 90


def agree(engine: Engine, judged: Sequence[Judged]) -> list[Row]:
    """Questions about drawn pictures, the answers beside what the checker saw.

    A picture in which the checker is not sure of everything is not asked about. A score of the last
    row is one picture's share of equal answers.
    """
    scenes = [scene_of(one.seen, one.order.scene.seed) for one in judged]
    clear = [(one, scene) for one, scene in zip(judged, scenes, strict=True) if scene]
    rows = [share("pictures that the checker sees clearly", [bool(scene) for scene in scenes])]
    if not clear:
        return rows
    asked = [ask(scene, number) for number, (_, scene) in enumerate(clear)]
    prompts = (
        (one.picture, [question.question for question in questions])
        for (one, _), questions in zip(clear, asked, strict=True)
    )
    said = answer(engine, prompts, "agreement", len(clear))
    equal: dict[str, list[bool]] = {sort: [] for sort in SORTS}
    shares = []
    for answers, questions in zip(said, asked, strict=True):
        scores = [a == question.answer for a, question in zip(answers, questions, strict=True)]
        for question, score in zip(questions, scores, strict=True):
            equal[question.type].append(score)
        shares.append(sum(scores) / len(scores))
    rows += [share(f"agreement: {sort}", scores) for sort, scores in equal.items() if scores]
    return [*rows, share("agreement: all, by picture", shares, BAR)]


def scene_of(seen: Seen, seed: int) -> Scene | None:
    """The scene that the checker saw, or None where it is not sure of all of it."""
    sure = all(
        thing.color in COLORS or (thing.color is None and thing.kind in PICTOGRAMS)
        for thing in seen.things
    )
    named = UNCLEAR not in {seen.background, *(thing.kind for thing in seen.things)}
    if not (seen.things and sure and named):
        return None
    things = tuple(
        Thing(t.kind, t.color, within(t.x), within(t.y), t.size, 0.0) for t in seen.things
    )
    return Scene(seen.background, things, (), seed)


def within(at: int) -> int:
    """A center as one inside the picture: of a thing that is cut off it may lie outside."""
    return min(max(at, 0), SIDE - 1)


def ask(scene: Scene, number: int) -> list[Question]:
    """A question of every sort that a scene allows; presence is yes and no by turns."""
    rng = random.Random(f"agreement {scene.seed}")
    asked = []
    for sort in SORTS:
        tries = (ASKERS[sort][0](scene, rng) for _ in range(TRIES))
        if sort == "presence":
            tries = (pair for pair in tries if pair and pair[1] == ("yes", "no")[number % 2])
        asked += [Question(*pair, sort) for pair in islice(filter(None, tries), 1)]
    return asked
