"""How a scene looks: its pixels, and a label for every patch of them; decides no content."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from janus_cli.train.world.scene import (
    BACKGROUNDS,
    CHARACTERS,
    CLASSES,
    COLORS,
    KINDS,
    PICTOGRAMS,
    SIDE,
    Scene,
    Text,
    Thing,
    count,
)
from janus_cli.train.world.style import TRAINING, Style, fonts, unseen_fonts

RGB = tuple[int, int, int]
Part = tuple["RGB | None", np.ndarray]  # fill (None: the thing's color), outline (N, 2)

PALETTE: dict[str, RGB] = {
    "red": (218, 28, 36),
    "green": (36, 160, 60),
    "blue": (38, 84, 226),
    "yellow": (250, 220, 40),
    "orange": (246, 132, 22),
    "purple": (148, 58, 204),
    "pink": (252, 140, 196),
    "cyan": (44, 208, 224),
    "black": (10, 10, 12),
    "white": (248, 248, 248),
    "gray": (134, 134, 136),
    "brown": (110, 70, 42),
}
OVERSAMPLE = 3
SAMPLES = 6  # label samples along a patch's side
MOST = 7  # things that a label counts; more are as many
LEAST_COVER = 0.1


def render(scene: Scene, style: Style = TRAINING) -> np.ndarray:
    """The picture of a scene, (384, 384, 3) uint8; scene and style alone decide its pixels."""
    rng = random.Random(f"paint {scene.seed}")
    picture = _paint_background(scene.background, rng, style)
    things = _varied(scene, style) if style.varies_things else scene.things
    for thing in things:
        _paint_thing(picture, thing, rng, style)
    faces = unseen_fonts() if style.unseen_fonts else fonts()
    draw = ImageDraw.Draw(picture)
    for text in scene.texts:
        font, left = _set_type(text, faces)
        spot = (left, text.y + _capital_height(font) / 2)
        fill = _jittered(PALETTE[text.color], rng, style.color)
        draw.text(spot, text.string, fill, font, anchor="ls")
    return np.array(picture)


def _varied(scene: Scene, style: Style) -> tuple[Thing, ...]:
    """The things as a style shows them: tilted a little more, a little smaller."""
    rng = random.Random(f"style {scene.seed}")  # of its own: training's pixels stay as they are
    return tuple(
        replace(
            thing,
            size=round(thing.size * rng.uniform(style.smallest, 1)),
            angle=thing.angle + rng.uniform(-style.tilt, style.tilt),
        )
        for thing in scene.things
    )


def patch_labels(scene: Scene, patch: int) -> dict[str, np.ndarray]:
    """What a vision encoder should say of each patch, row by row; 0 means nothing is there.

    "kind" and "color" name the thing that covers most of the patch, and "alike" counts those of its
    class; "center" is the class of the thing and "character" the character whose center lies in it.
    "row" and "column" are where the patch is; "background" is one index, and "things" one number.
    """
    grid = SIDE // patch
    owner = _owners(scene.things, grid)
    kinds = (*KINDS, *PICTOGRAMS)
    kind = np.array([0, *(1 + kinds.index(thing.kind) for thing in scene.things)])
    colors = [1 + COLORS.index(thing.color) if thing.color else 0 for thing in scene.things]
    alike = [min(MOST, count(scene, thing.color, thing.kind)) for thing in scene.things]
    center = np.zeros(grid * grid, np.int64)
    for thing in scene.things:
        center[thing.y // patch * grid + thing.x // patch] = 1 + CLASSES.index(
            (thing.color, thing.kind)
        )
    return {
        "kind": kind.astype(np.int64)[owner],
        "color": np.array([0, *colors], np.int64)[owner],
        "alike": np.array([0, *alike], np.int64)[owner],
        "center": center,
        "character": _character_labels(scene.texts, patch),
        "row": np.arange(grid * grid) // grid,
        "column": np.arange(grid * grid) % grid,
        "background": np.array(BACKGROUNDS.index(scene.background), np.int64),
        "things": np.array(min(MOST, len(scene.things)), np.int64),
    }


def _owners(things: tuple[Thing, ...], grid: int) -> np.ndarray:
    """Per patch, 1 + the index of the thing that covers most of it, or 0."""
    side = grid * SAMPLES
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for index, thing in enumerate(things, 1):
        for _, points in _outlines(thing):
            draw.polygon((points * (side / SIDE) - 0.5).ravel().tolist(), fill=index)
    slots = len(things) + 1
    samples = np.asarray(canvas).ravel() + _patch_numbers(grid) * slots
    cover = np.bincount(samples, minlength=grid * grid * slots).reshape(-1, slots)  # (P, S)
    cover[:, 0] = LEAST_COVER * SAMPLES * SAMPLES  # what a thing must exceed to count
    owners: np.ndarray = cover.argmax(1)
    return owners


@lru_cache(maxsize=4)
def _patch_numbers(grid: int) -> np.ndarray:
    """The patch that each label sample, row by row, belongs to."""
    along = np.arange(grid * SAMPLES) // SAMPLES
    return (along[:, None] * grid + along).ravel()


def _character_labels(texts: tuple[Text, ...], patch: int) -> np.ndarray:
    grid = SIDE // patch
    labels = np.zeros(grid * grid, np.int64)
    distances: dict[int, float] = {}
    for text in texts:
        for character, x in character_centers(text):
            index = text.y // patch * grid + int(x) // patch
            distance = abs(x % patch - patch / 2)
            if distance < distances.get(index, patch):
                distances[index] = distance
                labels[index] = 1 + CHARACTERS.index(character)
    return labels


# Text


@lru_cache(maxsize=1024)
def _load_font(name: str | None, size: int) -> ImageFont.FreeTypeFont:
    if name is None:
        bundled = ImageFont.load_default(size)
        assert isinstance(bundled, ImageFont.FreeTypeFont), "Pillow is built without FreeType"
        return bundled
    return ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1024)
def _capital_height(font: ImageFont.FreeTypeFont) -> int:
    return -round(font.getbbox("H", anchor="ls")[1])


def _set_type(text: Text, faces: Sequence[str | None]) -> tuple[ImageFont.FreeTypeFont, float]:
    """The font that gives the text its height, smaller if its box is too narrow; and its left."""
    face = faces[text.font % len(faces)]
    size = round(text.height * 100 / _capital_height(_load_font(face, 100)))
    font = _load_font(face, size)
    room = text.box[2] - text.box[0]
    while font.getlength(text.string) > room:
        size -= 1
        font = _load_font(face, size)
    return font, text.x - font.getlength(text.string) / 2


def character_centers(text: Text) -> list[tuple[str, float]]:
    """Each character with the x its center has in the picture."""
    font, left = _set_type(text, fonts())
    ends = [font.getlength(text.string[:stop]) for stop in range(len(text.string) + 1)]
    middles = [left + (start + stop) / 2 for start, stop in pairwise(ends)]
    return list(zip(text.string, middles, strict=True))


# Background


def _jittered(color: RGB, rng: random.Random, amount: int) -> RGB:
    red, green, blue = (min(255, max(0, c + rng.randint(-amount, amount))) for c in color)
    return red, green, blue


def _shifted(color: RGB, shift: int) -> RGB:
    red, green, blue = (min(255, max(0, c + shift)) for c in color)
    return red, green, blue


def _paint_background(name: str, rng: random.Random, style: Style) -> Image.Image:
    if name != "nebula":
        return Image.new("RGB", (SIDE, SIDE), _jittered(PALETTE[name], rng, style.ground))
    picture = _paint_clouds(rng, style.clouds)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randint(40, 70)):
        x, y, light = rng.randrange(SIDE), rng.randrange(SIDE), rng.randint(110, 245)
        radius = rng.choice((0, 0, 0, 1))
        draw.rectangle((x, y, x + radius, y + radius), (light, light, min(255, light + 10)))
    return picture


def _paint_clouds(rng: random.Random, shift: float) -> Image.Image:
    """Dark violet with soft lighter clouds: noise on two coarse grids, stretched smoothly."""
    noise = np.random.default_rng(rng.getrandbits(32))
    coarse = Image.fromarray(noise.random((4, 4), np.float32)).resize(
        (12, 12), Image.Resampling.BICUBIC
    )
    cloud = np.clip(np.asarray(coarse) * 0.75 + noise.random((12, 12), np.float32) * 0.25, 0, 1)
    low, high = np.array((20, 8, 44)), np.array((76, 34, 112))
    colors = low + (high - low) * cloud[..., None] ** 1.5
    colors = np.clip(colors + noise.uniform(-shift, shift, 3), 0, 255)
    return Image.fromarray(colors.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


# Things


def _paint_thing(picture: Image.Image, thing: Thing, rng: random.Random, style: Style) -> None:
    """Paint on an enlarged copy of the spot, so that shrinking it back smooths the edges."""
    left, top = int(thing.box[0]) - 1, int(thing.box[1]) - 1
    right, bottom = int(thing.box[2]) + 2, int(thing.box[3]) + 2
    spot = picture.crop((left, top, right, bottom))
    large = spot.resize(
        (spot.width * OVERSAMPLE, spot.height * OVERSAMPLE), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(large)
    own = _jittered(PALETTE[thing.color], rng, style.color) if thing.color else (0, 0, 0)
    shift = rng.randint(-style.shade, style.shade)
    for fill, points in _outlines(thing):
        color = own if fill is None else _shifted(fill, shift)
        draw.polygon(((points - (left, top)) * OVERSAMPLE - 0.5).ravel().tolist(), fill=color)
    picture.paste(large.reduce(OVERSAMPLE), (left, top))


@lru_cache(maxsize=64)
def _outlines(thing: Thing) -> list[Part]:
    """The thing's parts in picture coordinates, tilted and stretched to fill its box."""
    fills, points, stops = _drawing(thing.kind)
    turn = np.deg2rad(thing.angle)
    cosine, sine = np.cos(turn), np.sin(turn)
    points = points @ np.array(((cosine, sine), (-sine, cosine)))  # (N, 2)
    low, high = points.min(0), points.max(0)
    scale = thing.size / (high - low).max()
    points = (points - (low + high) / 2) * scale + (thing.x, thing.y)
    return list(zip(fills, np.split(points, stops), strict=True))


@cache
def _drawing(kind: str) -> tuple[list[RGB | None], np.ndarray, np.ndarray]:
    """Fills of the parts, all their points, and where each part but the first begins."""
    drawings: dict[str, Callable[[], list[Part]]] = {
        "circle": lambda: [(None, _ellipse(0, 0, 1, 1))],
        "square": lambda: [(None, _polygon(-1, -1, 1, -1, 1, 1, -1, 1))],
        "triangle": lambda: [(None, _polygon(0, -1, 1.08, 0.85, -1.08, 0.85))],
        "star": lambda: [(None, _star())],
        "heart": lambda: [(None, _heart())],
        "ring": lambda: [(None, _ring())],
        "penguin": _penguin,
        "corgi": _corgi,
    }
    parts = drawings[kind]()
    outlines = [outline for _, outline in parts]
    stops = np.cumsum([len(outline) for outline in outlines])[:-1]
    return [fill for fill, _ in parts], np.concatenate(outlines), stops


def _polygon(*coordinates: float) -> np.ndarray:
    return np.array(coordinates, np.float64).reshape(-1, 2)


def _ellipse(x: float, y: float, across: float, down: float, tilt: float = 0) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    points = np.stack((across * np.cos(angles), down * np.sin(angles)), 1)
    cosine, sine = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    return points @ np.array(((cosine, sine), (-sine, cosine))) + (x, y)


def _star() -> np.ndarray:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 0.45, 1.0)
    return np.stack((radii * np.sin(angles), -radii * np.cos(angles)), 1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    down = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return np.stack((16 * np.sin(t) ** 3, down), 1)


def _ring() -> np.ndarray:
    """Round the outside, then back round the inside: one outline that leaves a hole."""
    outside, inside = _ellipse(0, 0, 1, 1), _ellipse(0, 0, 0.58, 0.58)
    return np.concatenate((outside, outside[:1], inside[:1], inside[::-1]))


def _mirrored(fill: RGB, outline: np.ndarray) -> list[Part]:
    return [(fill, outline), (fill, outline * (-1, 1))]


def _penguin() -> list[Part]:
    dark, white, orange = (34, 38, 52), (246, 247, 250), (248, 146, 30)
    rim = (176, 190, 208)  # keeps the dark back apart from a dark background
    return [
        *_mirrored(rim, _ellipse(0.62, 0.14, 0.2, 0.5, -24)),
        (rim, _ellipse(0, 0.2, 0.68, 0.78)),
        (rim, _ellipse(0, -0.46, 0.54, 0.52)),
        *_mirrored(orange, _ellipse(0.3, 0.93, 0.27, 0.12)),
        *_mirrored(dark, _ellipse(0.62, 0.14, 0.15, 0.45, -24)),
        (dark, _ellipse(0, 0.2, 0.63, 0.73)),
        (dark, _ellipse(0, -0.46, 0.49, 0.47)),
        (white, _ellipse(0, 0.36, 0.44, 0.54)),
        *_mirrored(white, _ellipse(0.18, -0.4, 0.21, 0.25)),
        *_mirrored(dark, _ellipse(0.18, -0.46, 0.08, 0.09)),
        *_mirrored(white, _ellipse(0.2, -0.49, 0.03, 0.03)),
        (orange, _polygon(-0.16, -0.32, 0, -0.38, 0.16, -0.32, 0, -0.12)),
    ]


def _corgi() -> list[Part]:
    tan, white, dark = (226, 146, 66), (252, 248, 240), (44, 30, 26)
    return [
        *_mirrored(tan, _polygon(0.16, -0.42, 0.74, -1.02, 0.84, -0.98, 0.86, 0.05)),
        *_mirrored((242, 180, 164), _polygon(0.34, -0.42, 0.71, -0.82, 0.75, -0.2)),
        (tan, _ellipse(0, 0.14, 0.86, 0.68)),
        *_mirrored(white, _ellipse(0.42, 0.44, 0.3, 0.28, 20)),
        (white, _polygon(-0.06, -0.5, 0.06, -0.5, 0.2, 0.3, -0.2, 0.3)),
        (white, _ellipse(0, 0.44, 0.42, 0.34)),
        ((238, 104, 124), _ellipse(0, 0.66, 0.13, 0.2)),
        *_mirrored(dark, _ellipse(0.13, 0.46, 0.14, 0.06, 12)),
        *_mirrored(white, _ellipse(0.13, 0.42, 0.14, 0.06, 12)),
        (dark, _ellipse(0, 0.28, 0.16, 0.11)),
        *_mirrored(dark, _ellipse(0.36, 0.0, 0.1, 0.12)),
        *_mirrored((255, 255, 255), _ellipse(0.39, -0.04, 0.035, 0.04)),
    ]
