"""The losses of a run as a picture. It knows numbers, and not where they come from."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, MARGIN = 960, 480, 56  # pixels
LINES = 5  # of the grid
POINTS = 200  # of a curve; each is the mean of the steps around it
INK, GRID = (60, 60, 60), (225, 225, 225)
COLORS = ((31, 119, 180), (214, 91, 20))

Point = tuple[float, float]


def draw_curves(curves: dict[str, Sequence[Point]]) -> bytes:
    """A PNG of curves, each a name and its points (step, loss); curves without any are left out."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    shown = {name: smoothed(points) for name, points in curves.items() if points}
    everything = [point for points in shown.values() for point in points] or [(0.0, 0.0)]
    last = max([1.0, *(points[-1][0] for points in curves.values() if points)])
    highest = max(max(loss for _, loss in everything) * 1.05, 1e-6)

    def place(step: float, loss: float) -> Point:
        across, up = step / last, loss / highest
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    for number in range(LINES + 1):
        share = number / LINES
        left, right = place(0, share * highest), place(last, share * highest)
        draw.line([left, right], fill=GRID)
        draw.text((MARGIN - 6, left[1]), f"{share * highest:.2f}", INK, font, anchor="rm")
        bottom = place(share * last, 0)
        draw.text((bottom[0], bottom[1] + 8), f"{share * last:.0f}", INK, font, anchor="mt")
    draw.text((WIDTH / 2, HEIGHT - 8), "step", INK, font, anchor="mb")
    for number, ((name, points), color) in enumerate(zip(shown.items(), COLORS, strict=False)):
        draw.line([place(*point) for point in points], fill=color, width=2, joint="curve")
        draw.text((WIDTH - MARGIN, 14 + 20 * number), f"loss of {name}", color, font, anchor="rt")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def smoothed(points: Sequence[Point]) -> list[Point]:
    """At most POINTS points, each the mean of its neighborhood."""
    size = -(-len(points) // POINTS)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [
        (sum(step for step, _ in group) / len(group), sum(loss for _, loss in group) / len(group))
        for group in groups
    ]
