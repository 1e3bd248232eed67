"""What is said of a scene as a whole: captions to draw it from, and descriptions of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

from .scene import SIDE, Group, Scene, Text, Thing, groups

NUMBERS = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen"
).split()
SIDES = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}  # x, y: down is more
SIDE_WORDS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below",),
}
ASIDE = 0.8  # of the way forward, at most, where one thing lies on a side of another
FORWARD = 40  # pixels, at least
TOLD_SIDES = 0.6  # share of captions that tell a side where there is one to tell


def caption(scene: Scene, rng: random.Random) -> str:
    """What somebody might type to get this picture, in one of many wordings.

    Groups are named in the order in which they are read, or in any where a side is told.
    """
    digits, bare = rng.random() < 0.25, rng.random() < 0.35
    found = groups(scene)
    rng.shuffle(found)
    side = _side_of_groups(scene, found)
    told = side is not None and rng.random() < TOLD_SIDES
    if not told:
        found.sort(key=lambda group: _first_place(scene, group))
    setting = _setting(scene.background, rng)
    prefix = ""
    if scene.background == "nebula" and len(found) == 1 and rng.random() < 0.4:
        setting, prefix = "", "nebula "
    parts = [_counted(number, prefix + noun_of(c, k), digits, bare) for number, c, k in found]
    parts += [_lettering(text, rng) for text in scene.texts]
    opening = ""
    if not bare and rng.random() < 0.12:
        opening = rng.choice(("a picture of ", "an image of "))
    last = rng.choice((" and ", " and ", ", "))
    if side and told:
        last = f" {rng.choice(SIDE_WORDS[side])} "
    words = opening + _join(parts, last) + setting
    return words.replace("gray", "grey") if rng.random() < 0.15 else words


def describe(scene: Scene, detail: str, rng: random.Random | None = None) -> str:
    """The scene in a few words, in one phrase or in sentences: "short", "normal" or "long".

    Without `rng` things come in one fixed order, which is what a model can learn to say.
    """
    found = groups(scene)
    if rng:
        rng.shuffle(found)
    parts = [_counted(number, noun_of(color, kind)) for number, color, kind in found]
    colored = "" if detail == "short" else " in {}"
    parts += [f"the text {text.string}" + colored.format(text.color) for text in scene.texts]
    listing, ground = _join(parts), f" on a {scene.background} background"
    if detail == "short":
        return listing
    if detail == "normal":
        return listing + ground
    verb = "are" if found and found[0][0] > 1 else "is"
    sentences = [f"There {verb} {listing}{ground}."]
    ordered = sorted(scene.things, key=lambda t: (cell_of(t)[1], t.x)) + list(scene.texts)
    if len(ordered) == 1:
        return f"{sentences[0]} It is {placed(cell_of(ordered[0]))}."
    return " ".join(sentences + [_whereabouts(item) for item in ordered])


def describe_pair(scene: Scene, side: str) -> str:
    """Two things of which the first lies on a side of the second, in one phrase."""
    one, other = (with_article(noun_of(thing.color, thing.kind)) for thing in scene.things)
    return f"{one} {SIDE_WORDS[side][0]} {other} on a {scene.background} background"


def side_of(ones: Sequence[Thing], others: Sequence[Thing]) -> str | None:
    """On which side of all the others all of the ones lie, or None where one could argue."""
    for side, (across, down) in SIDES.items():
        ways = []
        for one, other in product(ones, others):
            x, y = one.x - other.x, one.y - other.y
            ways.append((across * x + down * y, abs(down * x + across * y)))
        if all(forward >= FORWARD and aside <= ASIDE * forward for forward, aside in ways):
            return side
    return None


def _side_of_groups(scene: Scene, found: Sequence[Group]) -> str | None:
    """The same of the first of two groups, beside which there is nothing."""
    if len(found) != 2 or scene.texts:
        return None
    first = found[0][1:]
    ones = [thing for thing in scene.things if (thing.color, thing.kind) == first]
    return side_of(ones, [thing for thing in scene.things if thing not in ones])


def noun_of(color: str | None, kind: str) -> str:
    return f"{color} {kind}" if color else kind


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _first_place(scene: Scene, group: Group) -> tuple[int, int]:
    """Row and place across of what is read first of a group."""
    things = (thing for thing in scene.things if (thing.color, thing.kind) == group[1:])
    return min((cell_of(thing)[1], thing.x) for thing in things)


def _counted(number: int, noun: str, digits: bool = False, bare: bool = False) -> str:
    if number == 1:
        return noun if bare else with_article(noun)
    return f"{number if digits else NUMBERS[number]} {noun}s"


def _join(parts: list[str], last: str = " and ") -> str:
    return last.join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), *parts[-1:]])


def _setting(background: str, rng: random.Random) -> str:
    """The background in words, or nothing at all."""
    forms = ["", "", " on a {} background", " on a {} background", " on {}", ", {} background"]
    if background == "nebula":
        forms[4:] = [" in a {}", " in a {}"]
    return rng.choice(forms).format(background)


def _lettering(text: Text, rng: random.Random) -> str:
    opening = rng.choice(("the text {}", "the text {}", "text {}", "the word {}", "{}"))
    string = f'"{text.string}"' if rng.random() < 0.1 else text.string
    return opening.format(string) + (f" in {text.color}" if rng.random() < 0.7 else "")


def cell_of(item: Thing | Text) -> tuple[int, int]:
    """Column and row of an item in a picture cut into three by three."""
    return item.x * 3 // SIDE, item.y * 3 // SIDE


def in_cell(item: Thing | Text, cell: tuple[int, int], margin: float) -> bool:
    """Whether the item's center lies in the cell widened by the margin."""
    pairs = zip((item.x, item.y), cell, strict=True)
    third = SIDE / 3
    return all(third * i - margin <= at < third * (i + 1) + margin for at, i in pairs)


def on_side(thing: Thing, cell: tuple[int, int]) -> bool:
    """Whether people may find the thing in that cell: "on the left" is the whole column."""
    across, down = cell
    if cell != (1, 1) and 1 in cell:
        own = cell_of(thing)
        across, down = (own[0] if across == 1 else across), (own[1] if down == 1 else down)
    return in_cell(thing, (across, down), 12)


def place_of(cell: tuple[int, int]) -> str:
    column, row = ("left", "", "right")[cell[0]], ("top", "", "bottom")[cell[1]]
    return f"{row} {column}".strip() or "center"


def placed(cell: tuple[int, int]) -> str:
    place = place_of(cell)
    preposition = {"left": "on", "right": "on", "center": "in"}.get(place, "at")
    return f"{preposition} the {place}"


def _whereabouts(item: Thing | Text) -> str:
    if isinstance(item, Text):
        return f"The text is {placed(cell_of(item))}."
    words = with_article(noun_of(item.color, item.kind))
    return f"{words[0].upper()}{words[1:]} is {placed(cell_of(item))}."
