"""A contact sheet: one drawing for each of some fixed prompts, the prompt under it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...engine.decode import Sampling
from ...engine.interface import Engine
from .drawings import draw
from .progress import show

PROMPTS = (
    "nebula corgi",
    "three penguins",
    "a red circle and two blue squares on a white background",
    "a yellow star on a black background",
    "a pink heart",
    "two corgis on a brown background",
    "a green triangle and a purple ring on a gray background",
    "a penguin in a nebula",
    "four orange circles on white",
    "a cyan square left of a red heart on black",
    "a corgi and a penguin on a white background",
    "five green stars",
)
ACROSS, THUMBNAIL, LINE, MARGIN, BYTES = 4, 128, 11, 2, 150_000


def draw_sheet(engine: Engine, sampling: Sampling, file: Path) -> None:
    """Draw every prompt with seed 0 and write the sheet, as a PNG of few colors."""
    pictures = []
    for number, prompt in enumerate(PROMPTS):
        show("sheet", number, len(PROMPTS))
        pictures.append(draw(engine, [prompt], [0], sampling)[0])
    sheet = lay_out(pictures)
    for colors in (256, 128, 64, 32, 16):
        few = sheet.quantize(colors, kmeans=2, dither=Image.Dither.NONE)
        few.save(file, "PNG", optimize=True)
        if file.stat().st_size < BYTES:
            return


def lay_out(pictures: list[np.ndarray]) -> Image.Image:
    """The pictures, made small, in rows."""
    wide, high = THUMBNAIL + 2 * MARGIN, THUMBNAIL + 2 * MARGIN + 3 * LINE
    sheet = Image.new("RGB", (ACROSS * wide, math.ceil(len(pictures) / ACROSS) * high), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(9)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow is built without FreeType"
    for number, (picture, prompt) in enumerate(zip(pictures, PROMPTS, strict=True)):
        left, top = number % ACROSS * wide + MARGIN, number // ACROSS * high + MARGIN
        small = Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        sheet.paste(small, (left, top))
        for index, line in enumerate(broken(prompt, font)):
            pen.text((left, top + THUMBNAIL + index * LINE), line, "black", font)
    return sheet


def broken(prompt: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """The prompt in lines no wider than a thumbnail."""
    lines = [""]
    for word in prompt.split():
        if font.getlength(f"{lines[-1]} {word}") > THUMBNAIL:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
