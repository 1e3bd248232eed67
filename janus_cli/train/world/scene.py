"""What is in a picture of the small training world; no words about it and no pixels."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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

SMALLEST, LARGEST = 44, 112
LOWEST, HIGHEST = 34, 60  # letter heights
FONT_SLOTS = 12  # the renderer wraps a slot round to the fonts it finds
TILT = 12.0
EDGE, GAP = 4, 6
CELL = 128  # pixels; a drawing is a board of three by three such cells
DRAWN = 96  # pixels; the size of every thing of a drawing
NEBULA = 0  # the seed of the one nebula that drawings have, so that a decoder can know it
ALONE, TWO, ALIKE = 0.45, 0.33, 0.16  # shares of drawings; the others have several of two sorts

Box = tuple[float, float, float, float]  # left, top, right, bottom
Group = tuple[int, "str | None", str]  # count, color, kind
Cell = tuple[int, int]  # column and row of a board

ROWS = [[(column, row) for column in range(3)] for row in range(3)]
COLUMNS = [[(column, row) for row in range(3)] for column in range(3)]
CORNERS: list[Cell] = [(0, 0), (2, 0), (0, 2), (2, 2)]
LAYOUTS: dict[int, list[list[Cell]]] = {
    1: [[cell] for cell in ROWS[1]],
    2: [[ROWS[1][0], ROWS[1][2]], [COLUMNS[1][0], COLUMNS[1][2]]],
    3: [ROWS[1], COLUMNS[1]],
    4: [CORNERS],
    5: [[*CORNERS[:2], (1, 1), *CORNERS[2:]]],
    6: [ROWS[0] + ROWS[2]],
}
"""Where so many things of a drawing may stand, as they are read; few ways, so that a decoder can
count."""


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


def sample_drawing(seed: int) -> Scene:
    """What a decoder is taught to draw: things of one size, upright, on a board of nine cells.

    A caption says what is in a picture and not where, how large and how askew. Of all that a
    decoder can only guess, and over `sample_scene` the guesses are most of the loss. On the board a
    thing looks the same in every cell, so what is left to learn is in the caption.
    """
    rng = random.Random(f"drawing {seed}")
    number, sorts = _sample_number(rng)
    classes = _sample_classes(rng, sorts)
    classes += [rng.choice(classes) for _ in range(number - sorts)]
    classes = sorted(classes, key=classes.index)
    return _set_out(rng, classes)


def sample_contrast(seed: int) -> Scene:
    """A drawing of two or three things, no two of one color or of one kind.

    Which color goes with which kind, and which thing with which place, is all there is to know.
    """
    rng = random.Random(f"contrast {seed}")
    number = rng.choice((2, 2, 3))
    return _set_out(
        rng, list(zip(rng.sample(COLORS, number), rng.sample(KINDS, number), strict=True))
    )


def _set_out(rng: random.Random, classes: Sequence[tuple[str | None, str]]) -> Scene:
    """Things in one of the layouts of so many, on any background."""
    cells = rng.choice(LAYOUTS[len(classes)])
    things = [stand(look, cell) for look, cell in zip(classes, cells, strict=True)]
    return Scene(rng.choice(BACKGROUNDS), tuple(things), (), NEBULA)


def stand(look: tuple[str | None, str], cell: Cell) -> Thing:
    """A thing of that color and kind in a cell of the board of a drawing."""
    x, y = (CELL * place + CELL // 2 for place in cell)
    return Thing(look[1], look[0], x, y, DRAWN, 0.0)


def _sample_number(rng: random.Random) -> tuple[int, int]:
    """How many things a drawing shows, and of how many sorts."""
    draw = rng.random()
    if draw < ALONE:
        return 1, 1
    if draw < ALONE + TWO:
        return 2, 2
    if draw < ALONE + TWO + ALIKE:
        return rng.randint(2, 5 if rng.random() < 0.85 else 6), 1
    return rng.randint(3, 6), 2


def sample_crowd(
    seed: int,
    things: tuple[int, int] = (6, 16),
    strings: tuple[int, int] = (0, 4),
    longest: int = 5,
) -> Scene:
    """A crowded picture, each thing of a class of its own, with as many strings as find room."""
    rng = random.Random(f"crowd {seed}")
    background = rng.choice(BACKGROUNDS)
    texts: list[Text] = []
    for _ in range(rng.randint(*strings)):
        height = rng.randint(LOWEST, HIGHEST - 8)
        taken = [text.box for text in texts]
        text = _sample_text(rng, background, _sample_string(rng, longest), height, taken)
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
