"""What is in a picture of the small training world and what can be said about it; no pixels."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..understand import DESCRIBE_QUESTIONS, OCR_QUESTION

SIDE = 384
KINDS = ("circle", "square", "triangle", "star", "heart", "ring")
PICTOGRAMS = ("penguin", "corgi")
COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan")
BACKGROUNDS = ("white", "black", "gray", "brown", "nebula")
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
CLASSES: tuple[tuple[str | None, str], ...] = (
    *((color, kind) for kind in KINDS for color in COLORS),
    *((None, kind) for kind in PICTOGRAMS),
)
PICTOGRAM_COLORS = {"penguin": "black and white", "corgi": "orange and white"}
# Text colors that read badly on a background.
UNREADABLE = {
    "white": {"white", "yellow", "cyan"},
    "black": {"black"},
    "gray": {"green"},
    "brown": {"red", "purple"},
    "nebula": {"black", "purple"},
}
WORDS = (  # noqa: SIM905
    "HELLO WORLD JANUS CORGI HEART LOVE STOP GO EXIT OPEN CAT DOG MOON STAR SUN SKY TREE FISH "
    "BIRD PIZZA COFFEE MUSIC PAPER LIGHT NIGHT WATER GREEN BLUE YES NO OK HI BYE CODE TEST "
    "PYTHON SPACE ROCKET PENGUIN ORANGE"
).split()
NUMBERS = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen"
).split()

NO_TEXT = "no text"

SMALLEST, LARGEST = 44, 112
LOWEST, HIGHEST = 34, 60  # letter heights
FONT_SLOTS = 12  # the renderer wraps a slot round to the fonts it finds
TILT = 12.0
EDGE, GAP = 4, 6

Box = tuple[float, float, float, float]  # left, top, right, bottom
Group = tuple[int, "str | None", str]  # count, color, kind
Query = tuple["str | None", "str | None"]  # color, kind; None matches any


@dataclass(frozen=True)
class Thing:
    """One object: a colored shape, or a pictogram with colors of its own."""

    kind: str
    color: str | None
    x: int  # center
    y: int
    size: int  # side of the box the tilted object fills
    angle: float  # degrees

    @property
    def box(self) -> Box:
        half = self.size / 2
        return self.x - half, self.y - half, self.x + half, self.y + half


@dataclass(frozen=True)
class Text:
    """One line of upper-case letters and digits."""

    string: str
    color: str
    x: int  # center
    y: int
    height: int  # of a capital letter
    font: int  # slot, see FONT_SLOTS

    @property
    def box(self) -> Box:
        across, down = _text_width(self.string, self.height) / 2, self.height / 2
        return self.x - across, self.y - down, self.x + across, self.y + down


@dataclass(frozen=True)
class Scene:
    """Everything a picture shows; the seed adds the jitter that has no name."""

    background: str
    things: tuple[Thing, ...]
    texts: tuple[Text, ...]
    seed: int


@dataclass(frozen=True)
class Question:
    """A question about one scene, its answer, and what it tests."""

    question: str
    answer: str
    type: str  # a key of ASKERS


def groups(scene: Scene) -> list[Group]:
    """Alike things counted together, most numerous first, then in the order of CLASSES."""
    counts = Counter((thing.color, thing.kind) for thing in scene.things)
    ordered = sorted(counts, key=lambda group: (-counts[group], CLASSES.index(group)))
    return [(counts[group], *group) for group in ordered]


def count(scene: Scene, color: str | None, kind: str | None) -> int:
    """Number of things of that color and kind, where None stands for any."""
    return sum(color in (None, t.color) and kind in (None, t.kind) for t in scene.things)


# Sampling


def sample_scene(
    seed: int, *, max_groups: int = 3, max_things: int = 6, text_share: float = 0.15
) -> Scene:
    """A picture of a few groups of things or, in `text_share` of the cases, of one string."""
    # A stream of its own: callers tend to seed their own rng with the same number.
    rng = random.Random(f"scene {seed}")
    background = rng.choice(BACKGROUNDS)
    if rng.random() < text_share:
        height = rng.randint(LOWEST, HIGHEST)
        text = _sample_text(rng, background, _sample_string(rng, 8), height, [])
        assert text is not None, "one string always fits an empty picture"
        return Scene(background, (), (text,), seed)
    total = rng.randint(1, max_things)
    classes = _sample_classes(rng, rng.randint(1, min(max_groups, total)))
    extra = [rng.choice(classes) for _ in range(total - len(classes))]
    while True:
        things = _place_things(rng, classes + extra, [])
        if len(things) == total:
            return Scene(background, tuple(things), (), seed)


def sample_crowd(seed: int, things: tuple[int, int] = (6, 16), characters: bool = True) -> Scene:
    """A crowded picture, each thing of a class of its own, mostly with a few short strings."""
    rng = random.Random(f"crowd {seed}")
    background = rng.choice(BACKGROUNDS)
    texts: list[Text] = []
    for _ in range(rng.randint(0, 4) if characters else 0):
        height = rng.randint(LOWEST, HIGHEST - 8)
        taken = [text.box for text in texts]
        text = _sample_text(rng, background, _sample_string(rng, 5), height, taken)
        texts += [text] if text else []
    classes = [_sample_class(rng) for _ in range(rng.randint(*things))]
    placed = _place_things(rng, classes, [text.box for text in texts])
    return Scene(background, tuple(placed), tuple(texts), seed)


def _sample_class(rng: random.Random) -> tuple[str | None, str]:
    if rng.random() < 0.2:
        return None, rng.choice(PICTOGRAMS)
    return rng.choice(COLORS), rng.choice(KINDS)


def _sample_classes(rng: random.Random, number: int) -> list[tuple[str | None, str]]:
    """Different classes that often share a color or a kind, so that both must be looked at."""
    classes = [_sample_class(rng)]
    while len(classes) < number:
        color, kind = _sample_class(rng)
        last_color, last_kind = classes[-1]
        if color and last_color:
            draw = rng.random()
            color = last_color if draw < 0.25 else color
            kind = last_kind if draw > 0.75 else kind
        if (color, kind) not in classes:
            classes.append((color, kind))
    return classes


def _sample_string(rng: random.Random, longest: int) -> str:
    if rng.random() < 0.3:
        return rng.choice([word for word in WORDS if len(word) <= longest])
    letters, digits = CHARACTERS[:26], CHARACTERS[26:]
    alphabet = rng.choice((letters, letters, digits, CHARACTERS))
    return "".join(rng.choices(alphabet, k=rng.randint(1, longest)))


def _text_width(string: str, height: int) -> float:
    """Room kept for a string, generous enough for most fonts; the renderer never exceeds it."""
    widths = {"M": 1.5, "W": 1.5, "I": 0.85, "J": 0.85, "1": 0.85}
    return min(SIDE - 4 * EDGE, height * sum(widths.get(letter, 1.1) for letter in string))


def _sample_text(
    rng: random.Random, background: str, string: str, height: int, taken: list[Box]
) -> Text | None:
    while height > LOWEST and _text_width(string, height) == SIDE - 4 * EDGE:
        height -= 1
    spot = _find_spot(rng, _text_width(string, height), height + EDGE, taken)
    if spot is None:
        return None
    readable = [c for c in (*COLORS, "black", "white") if c not in UNREADABLE[background]]
    return Text(string, rng.choice(readable), *spot, height, rng.randrange(FONT_SLOTS))


def _place_things(
    rng: random.Random, classes: list[tuple[str | None, str]], taken: list[Box]
) -> list[Thing]:
    """Things where they fit, smaller the more there are; one that fits nowhere is left out."""
    things: list[Thing] = []
    largest = LARGEST if len(classes) <= 4 else 96 if len(classes) <= 6 else 76
    for color, kind in classes:
        size = rng.randint(SMALLEST, largest)
        spot = _find_spot(rng, size, size, taken)
        while spot is None and size > SMALLEST:
            size = max(SMALLEST, size * 4 // 5)
            spot = _find_spot(rng, size, size, taken)
        if spot:
            things.append(Thing(kind, color, *spot, size, round(rng.uniform(-TILT, TILT), 1)))
            taken = [*taken, things[-1].box]
    return things


def _find_spot(
    rng: random.Random, width: float, height: float, taken: list[Box]
) -> tuple[int, int] | None:
    """A center for a box of that size, clear of the taken boxes."""
    across, down = int(width / 2 + 1), int(height / 2 + 1)
    for _ in range(40):
        x = rng.randint(EDGE + across, SIDE - EDGE - across)
        y = rng.randint(EDGE + down, SIDE - EDGE - down)
        if not any(
            x - across < right + GAP
            and x + across > left - GAP
            and y - down < bottom + GAP
            and y + down > top - GAP
            for left, top, right, bottom in taken
        ):
            return x, y
    return None


# Captions and descriptions


def caption(scene: Scene, rng: random.Random) -> str:
    """What somebody might type to get this picture, in one of many wordings."""
    digits, bare = rng.random() < 0.25, rng.random() < 0.35
    found = groups(scene)
    rng.shuffle(found)
    setting = _setting(scene.background, rng)
    prefix = ""
    if scene.background == "nebula" and len(found) == 1 and rng.random() < 0.4:
        setting, prefix = "", "nebula "
    parts = [_counted(number, prefix + _noun(c, k), digits, bare) for number, c, k in found]
    parts += [_lettering(text, rng) for text in scene.texts]
    opening = ""
    if not bare and rng.random() < 0.12:
        opening = rng.choice(("a picture of ", "an image of "))
    words = opening + _join(parts, rng.choice((" and ", " and ", ", "))) + setting
    return words.replace("gray", "grey") if rng.random() < 0.15 else words


def describe(scene: Scene, detail: str, rng: random.Random | None = None) -> str:
    """The scene in a few words, in one phrase or in sentences: "short", "normal" or "long".

    Without `rng` things come in one fixed order, which is what a model can learn to say.
    """
    found = groups(scene)
    if rng:
        rng.shuffle(found)
    parts = [_counted(number, _noun(color, kind)) for number, color, kind in found]
    colored = "" if detail == "short" else " in {}"
    parts += [f"the text {text.string}" + colored.format(text.color) for text in scene.texts]
    listing, ground = _join(parts), f" on a {scene.background} background"
    if detail == "short":
        return listing
    if detail == "normal":
        return listing + ground
    verb = "are" if found and found[0][0] > 1 else "is"
    sentences = [f"There {verb} {listing}{ground}."]
    placed = sorted(scene.things, key=lambda t: (_cell(t)[1], t.x)) + list(scene.texts)
    if len(placed) == 1:
        return f"{sentences[0]} It is {_placed(_cell(placed[0]))}."
    return " ".join(sentences + [_whereabouts(item) for item in placed])


def _noun(color: str | None, kind: str) -> str:
    return f"{color} {kind}" if color else kind


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _counted(number: int, noun: str, digits: bool = False, bare: bool = False) -> str:
    if number == 1:
        return noun if bare else _with_article(noun)
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


def _cell(item: Thing | Text) -> tuple[int, int]:
    """Column and row of an item in a picture cut into three by three."""
    return item.x * 3 // SIDE, item.y * 3 // SIDE


def _in_cell(item: Thing | Text, cell: tuple[int, int], margin: float) -> bool:
    """Whether the item's center lies in the cell widened by the margin."""
    pairs = zip((item.x, item.y), cell, strict=True)
    third = SIDE / 3
    return all(third * i - margin <= at < third * (i + 1) + margin for at, i in pairs)


def _on_side(thing: Thing, cell: tuple[int, int]) -> bool:
    """Whether people may find the thing in that cell: "on the left" is the whole column."""
    across, down = cell
    if cell != (1, 1) and 1 in cell:
        own = _cell(thing)
        across, down = (own[0] if across == 1 else across), (own[1] if down == 1 else down)
    return _in_cell(thing, (across, down), 12)


def _place(cell: tuple[int, int]) -> str:
    column, row = ("left", "", "right")[cell[0]], ("top", "", "bottom")[cell[1]]
    return f"{row} {column}".strip() or "center"


def _placed(cell: tuple[int, int]) -> str:
    place = _place(cell)
    preposition = {"left": "on", "right": "on", "center": "in"}.get(place, "at")
    return f"{preposition} the {place}"


def _whereabouts(item: Thing | Text) -> str:
    if isinstance(item, Text):
        return f"The text is {_placed(_cell(item))}."
    words = _with_article(_noun(item.color, item.kind))
    return f"{words[0].upper()}{words[1:]} is {_placed(_cell(item))}."


# Questions


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


Pair = tuple[str, str]  # question, answer


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
    nouns = _noun(color, kind or _generic(scene, rng)) + "s"
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
    noun = _noun(query[0], query[1] or _generic(scene, rng))
    single = _with_article(noun)
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
        return rng.choice((thing.kind, _noun(thing.color, thing.kind)))
    single = count(scene, thing.color, thing.kind) == 1
    return _noun(thing.color, thing.kind) if single else None


def _ask_position(scene: Scene, rng: random.Random) -> Pair | None:
    """The sort is drawn once and tried often, as little can be asked beyond dispute."""
    ask = rng.choices((_ask_neighbor, _ask_where, _ask_cell), (6, 3, 3))[0]
    tries = (ask(scene, rng) for _ in range(8))
    return next((pair for pair in tries if pair), None)


def _ask_where(scene: Scene, rng: random.Random) -> Pair | None:
    thing = rng.choice(scene.things)
    cell, name = _cell(thing), _name(scene, thing, rng)
    if name is None or not _in_cell(thing, cell, -12):
        return None
    question = _wording(
        rng,
        f"where is the {name}",
        f"where is the {name} in the picture",
        f"where can you see the {name}",
        f"in which part of the picture is the {name}",
    )
    return question, _place(cell)


def _ask_cell(scene: Scene, rng: random.Random) -> Pair | None:
    thing = rng.choice(scene.things)
    cell, noun = _cell(thing), _noun(thing.color, thing.kind)
    near = {_noun(other.color, other.kind) for other in scene.things if _on_side(other, cell)}
    if near != {noun} or not _in_cell(thing, cell, -12):
        return None
    place = _placed(cell)
    question = _wording(
        rng,
        f"what is {place}",
        f"what is {place} of the picture",
        f"what do you see {place}",
        f"which {_generic(scene, rng)} is {place}",
    )
    return question, _with_article(noun)


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
        return "nothing"
    distance, slope, nearest = min(ahead, key=lambda entry: entry[0])
    answer = _noun(nearest.color, nearest.kind)
    rivals = [t for d, _, t in ahead if d < 1.5 * distance]
    if slope > 0.6 or any(_noun(t.color, t.kind) != answer for t in rivals):
        return None
    return _with_article(answer)


def _ask_neighbor(scene: Scene, rng: random.Random) -> Pair | None:
    thing, direction = rng.choice(scene.things), rng.choice(("left", "right", "above", "below"))
    name, answer = _name(scene, thing, rng), neighbor(scene, thing, direction)
    if name is None or answer is None or len(scene.things) == 1:
        return None
    if answer == "nothing" and rng.random() < 0.95:
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


# Asker, weight in a picture of things, weight in a picture of text alone.
ASKERS: dict[str, tuple[Callable[[Scene, random.Random], Pair | None], int, int]] = {
    "number": (_ask_number, 24, 0),
    "color": (_ask_color, 20, 0),
    "presence": (_ask_presence, 18, 0),
    "position": (_ask_position, 30, 0),
    "background": (_ask_background, 7, 10),
    "text": (_ask_text, 2, 60),
    "describe": (_ask_describe, 9, 15),
}
