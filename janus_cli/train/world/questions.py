"""Questions about a scene, each with exactly one right answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...understand import DESCRIBE_QUESTIONS, OCR_QUESTION
from .captions import (
    caption,
    cell_of,
    describe,
    in_cell,
    noun_of,
    on_side,
    place_of,
    placed,
    with_article,
)
from .scene import COLORS, KINDS, PICTOGRAMS, Scene, Thing, count, sample_scene

PICTOGRAM_COLORS = {"penguin": "black and white", "corgi": "orange and white"}
NO_TEXT = "no text"
NOTHING = "nothing"

Query = tuple["str | None", "str | None"]  # color, kind; None matches any
Pair = tuple[str, str]  # question, answer


@dataclass(frozen=True)
class Question:
    """A question about one scene, its answer, and what it tests."""

    question: str
    answer: str
    type: str  # a key of ASKERS


def questions(scene: Scene, rng: random.Random, count: int) -> list[Question]:
    """So many questions of mixed types; each one has exactly one right answer."""
    names = list(ASKERS)
    weights = [about if scene.things else reading for _, about, reading in ASKERS.values()]
    asked: list[Question] = []
    while len(asked) < count:
        name = rng.choices(names, weights)[0]
        pair = ASKERS[name][0](scene, rng)
        if pair:
            asked.append(Question(*pair, name))
    return asked


def corpus(seed: int, count: int) -> Iterator[str]:
    """Captions, questions, answers and descriptions of `count` scenes, to train a tokenizer on."""
    for number in range(seed, seed + count):
        scene, rng = sample_scene(number), random.Random(number)
        yield caption(scene, rng)
        yield from (describe(scene, detail) for detail in DESCRIBE_QUESTIONS)
        for pair in questions(scene, rng, 4):
            yield from (pair.question, pair.answer)


def _wording(rng: random.Random, *forms: str) -> str:
    """One of the forms in the loose spelling people use."""
    words = rng.choice(forms)
    if rng.random() < 0.3:
        words = words.replace("color", "colour")
    if rng.random() < 0.3:
        words = words.replace("picture", "image")
    if rng.random() < 0.5:
        words = words[0].upper() + words[1:]
    return words + ("?" if rng.random() < 0.75 else "")


def _generic(scene: Scene, rng: random.Random) -> str:
    """A word for any thing; a pictogram is not a shape."""
    return rng.choice(("object", "thing") if _has_pictogram(scene) else ("object", "shape"))


def _has_pictogram(scene: Scene) -> bool:
    return any(thing.color is None for thing in scene.things)


def _true_query(scene: Scene, rng: random.Random) -> Query:
    """What one of the things is, in full or by kind or by color alone."""
    thing, draw = rng.choice(scene.things), rng.random()
    if draw < 0.2:
        return None, thing.kind
    # A penguin's beak is orange too: no colors alone where a pictogram is.
    if draw < 0.35 and not _has_pictogram(scene):
        return thing.color, None
    return thing.color, thing.kind


def _false_query(scene: Scene, rng: random.Random) -> Query | None:
    """What none of the things is, though half of it is often right."""
    for _ in range(30):
        color, kind = _true_query(scene, rng)
        change = rng.choice(("color", "color", "kind", "kind", "both"))
        if kind in PICTOGRAMS and rng.random() < 0.8:
            kind = rng.choice(PICTOGRAMS)
        elif color is None:
            kind = rng.choice((*KINDS, *PICTOGRAMS))
        else:
            color = rng.choice(COLORS) if change != "kind" or kind is None else color
            kind = rng.choice(KINDS) if change != "color" and kind else kind
        if count(scene, color, kind) == 0:
            return color, kind
    return None


def _ask_number(scene: Scene, rng: random.Random) -> Pair | None:
    draw = rng.random()
    color, kind = None, None
    if 0.25 < draw < 0.9:
        color, kind = _true_query(scene, rng)
    elif draw >= 0.9:
        absent = _false_query(scene, rng)
        if absent is None:
            return None
        color, kind = absent
    nouns = noun_of(color, kind or _generic(scene, rng)) + "s"
    question = _wording(
        rng,
        f"how many {nouns} are there",
        f"how many {nouns}",
        f"how many {nouns} are in the picture",
        f"how many {nouns} do you see",
        f"count the {nouns}",
        f"what is the number of {nouns}",
    )
    return question, str(count(scene, color, kind))


def _ask_color(scene: Scene, rng: random.Random) -> Pair | None:
    thing = rng.choice(scene.things)
    number = count(scene, None, thing.kind)
    if count(scene, thing.color, thing.kind) != number:
        return None  # the kind comes in several colors
    if thing.color is None and rng.random() < 0.5:
        return None  # always the same two answers
    alone = len(scene.things) == 1 and thing.color and rng.random() < 0.3
    noun = _generic(scene, rng) if alone else thing.kind
    subject = f"is the {noun}" if number == 1 else f"are the {noun}s"
    question = _wording(
        rng,
        f"what color {subject}",
        f"what color {subject}",
        f"which color {subject}",
        f"what color {subject} in the picture",
        f"what is the color of the {noun}{'s' if number > 1 else ''}",
    )
    return question, thing.color or PICTOGRAM_COLORS[thing.kind]


def _ask_presence(scene: Scene, rng: random.Random) -> Pair | None:
    present = rng.random() < 0.5
    query = _true_query(scene, rng) if present else _false_query(scene, rng)
    if query is None:
        return None
    noun = noun_of(query[0], query[1] or _generic(scene, rng))
    single = with_article(noun)
    question = _wording(
        rng,
        f"is there {single}",
        f"is there {single}",
        f"is there {single} in the picture",
        f"do you see {single}",
        f"does the picture show {single}",
        f"are there any {noun}s",
        f"can you see any {noun}s",
    )
    return question, "yes" if present else "no"


def _name(scene: Scene, thing: Thing, rng: random.Random) -> str | None:
    """What to call one thing so that no other is meant."""
    if count(scene, None, thing.kind) == 1:
        return rng.choice((thing.kind, noun_of(thing.color, thing.kind)))
    single = count(scene, thing.color, thing.kind) == 1
    return noun_of(thing.color, thing.kind) if single else None


def _ask_position(scene: Scene, rng: random.Random) -> Pair | None:
    """The sort is drawn once and tried often, as little can be asked beyond dispute."""
    ask = rng.choices((_ask_neighbor, _ask_where, _ask_cell), (6, 3, 3))[0]
    tries = (ask(scene, rng) for _ in range(8))
    return next((pair for pair in tries if pair), None)


def _ask_where(scene: Scene, rng: random.Random) -> Pair | None:
    thing = rng.choice(scene.things)
    cell, name = cell_of(thing), _name(scene, thing, rng)
    if name is None or not in_cell(thing, cell, -12):
        return None
    question = _wording(
        rng,
        f"where is the {name}",
        f"where is the {name} in the picture",
        f"where can you see the {name}",
        f"in which part of the picture is the {name}",
    )
    return question, place_of(cell)


def _ask_cell(scene: Scene, rng: random.Random) -> Pair | None:
    thing = rng.choice(scene.things)
    cell, noun = cell_of(thing), noun_of(thing.color, thing.kind)
    near = {noun_of(other.color, other.kind) for other in scene.things if on_side(other, cell)}
    if near != {noun} or not in_cell(thing, cell, -12):
        return None
    place = placed(cell)
    question = _wording(
        rng,
        f"what is {place}",
        f"what is {place} of the picture",
        f"what do you see {place}",
        f"which {_generic(scene, rng)} is {place}",
    )
    return question, with_article(noun)


def neighbor(scene: Scene, thing: Thing, direction: str) -> str | None:
    """What lies next to a thing on one side, "nothing", or None where one could argue."""
    sign = 1 if direction in ("right", "below") else -1
    beside = direction in ("left", "right")
    ahead: list[tuple[float, float, Thing]] = []  # distance, slope, thing
    for other in scene.things:
        forward, aside = sign * (other.x - thing.x), abs(other.y - thing.y)
        if not beside:
            forward, aside = sign * (other.y - thing.y), abs(other.x - thing.x)
        if other is not thing and forward > -16:
            ahead.append((forward**2 + aside**2, aside / max(forward, 1), other))
    if not ahead:
        return NOTHING
    distance, slope, nearest = min(ahead, key=lambda entry: entry[0])
    answer = noun_of(nearest.color, nearest.kind)
    rivals = [t for d, _, t in ahead if d < 1.5 * distance]
    if slope > 0.6 or any(noun_of(t.color, t.kind) != answer for t in rivals):
        return None
    return with_article(answer)


def _ask_neighbor(scene: Scene, rng: random.Random, empty: float = 0.05) -> Pair | None:
    thing, direction = rng.choice(scene.things), rng.choice(("left", "right", "above", "below"))
    name, answer = _name(scene, thing, rng), neighbor(scene, thing, direction)
    if name is None or answer is None or len(scene.things) == 1:
        return None
    if answer == NOTHING and rng.random() >= empty:
        return None  # true of four things in every picture: too common to ask each time
    side = f"{direction} the {name}"
    longer = side
    if direction in ("left", "right"):
        side, longer = f"{direction} of the {name}", f"to the {direction} of the {name}"
    question = _wording(
        rng,
        f"what is {side}",
        f"what is {longer}",
        f"what do you see {longer}",
        f"which {_generic(scene, rng)} is {side}",
    )
    return question, answer


def _ask_empty_side(scene: Scene, rng: random.Random) -> Pair | None:
    """For training alone: as rarely as exams ask for it, "nothing" is learned late."""
    pair = _ask_neighbor(scene, rng, empty=1.0)
    return pair if pair and pair[1] == NOTHING else None


def _ask_background(scene: Scene, rng: random.Random) -> Pair:
    question = _wording(
        rng,
        "what is the background",
        "what color is the background",
        "what background is it",
        "what is the color of the background",
        "which background does the picture have",
        "what is in the background",
    )
    return question, scene.background


def _ask_text(scene: Scene, rng: random.Random) -> Pair:
    if len(scene.texts) == 1 and rng.random() < 0.2:
        question = _wording(
            rng,
            "what color is the text",
            "what color are the letters",
            "what is the color of the text",
            "which color is the text",
        )
        return question, scene.texts[0].color
    answer = " ".join(text.string for text in scene.texts) or NO_TEXT
    if rng.random() < 0.4:
        return OCR_QUESTION, answer
    question = _wording(
        rng,
        "what does it say",
        "what does the picture say",
        "what is written here",
        "what is the text",
        "which text is in the picture",
        "read the text",
        "what does the text say",
    )
    return question, answer


def _ask_describe(scene: Scene, rng: random.Random) -> Pair:
    detail = rng.choice(tuple(DESCRIBE_QUESTIONS))
    question = DESCRIBE_QUESTIONS[detail]
    if detail == "short" and rng.random() < 0.6:
        question = _wording(
            rng,
            "what is in the picture",
            "what do you see",
            "what is this",
            "what does the picture show",
        )
    return question, describe(scene, detail)


# Asker, weight in a picture of things, weight in a picture of text alone; one that finds nothing to
# ask is passed over, so that these are not the shares of what is asked.
ASKERS: dict[str, tuple[Callable[[Scene, random.Random], Pair | None], int, int]] = {
    "number": (_ask_number, 24, 0),
    "color": (_ask_color, 14, 0),
    "presence": (_ask_presence, 12, 0),
    "position": (_ask_position, 44, 0),
    "background": (_ask_background, 7, 10),
    "text": (_ask_text, 2, 60),
    "describe": (_ask_describe, 9, 15),
    "empty side": (_ask_empty_side, 10, 0),
}
