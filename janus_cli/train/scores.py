"""Scores to rows of a table: means with 95 % intervals; it does not know what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.959964  # 95 % of a normal distribution lie within so many deviations


@dataclass(frozen=True)
class Row:
    """One measure: a share with its interval or, with a unit, a mean with its interval."""

    measure: str
    value: float
    low: float
    high: float
    cases: int
    bar: int | None = None  # percent to reach first
    unit: str = "%"

    def markdown(self) -> str:
        scale, digits = (100, 1) if self.unit == "%" else (1, 3)
        value, low, high = (f"{scale * v:.{digits}f}" for v in (self.value, self.low, self.high))
        bar = "" if self.bar is None else f"{self.bar} %"
        return (
            f"| {self.measure} | {value} {self.unit} | {low}–{high} {self.unit} "
            f"| {self.cases} | {bar} |"
        )


def share(measure: str, scores: Sequence[float], bar: int | None = None) -> Row:
    """The mean of scores from 0 to 1; partial ones make the interval wider than it need be."""
    value = sum(scores) / len(scores)
    return Row(measure, value, *wilson(value, len(scores)), len(scores), bar)


def wilson(value: float, cases: int, z: float = Z) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    middle = value + z * z / (2 * cases)
    half = z * math.sqrt(value * (1 - value) / cases + z * z / (4 * cases * cases))
    shrink = 1 + z * z / cases
    return max(0.0, (middle - half) / shrink), min(1.0, (middle + half) / shrink)


def mean(measure: str, values: Sequence[float]) -> Row:
    """A mean in nats with its 95 % interval."""
    middle = sum(values) / len(values)
    variance = sum((value - middle) ** 2 for value in values) / len(values)
    half = Z * math.sqrt(variance / len(values))
    return Row(measure, middle, middle - half, middle + half, len(values), unit="nats")


def edit_distance(one: str, other: str) -> int:
    """How many characters must be put in, taken out or replaced."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        last, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (left != right)))
    return row[-1]
