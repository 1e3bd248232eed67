"""Scores to a table: means with 95 % intervals; it does not know what was measured.

Every score of a row is of another picture, so that scores are independent. Where one picture has
several, their mean is one score.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Z = 1.959964  # 95 % of a normal distribution lie within so many deviations


@dataclass(frozen=True)
class Row:
    """One measure: a share with its interval or, with a unit, another figure with its range."""

    measure: str
    value: float
    low: float
    high: float
    cases: int
    bar: float | None = None
    """What to reach, in percent of a share, else in the unit."""
    unit: str = "%"
    at_most: bool = False
    """Whether the bar is one to stay under."""

    @property
    def goal(self) -> str:
        """The bar in words."""
        if self.bar is None:
            return ""
        return f"{'at most' if self.at_most else 'at least'} {self.bar:g} {self.unit}"

    @property
    def reached(self) -> bool | None:
        """Whether the value reaches its bar, where there is one."""
        if self.bar is None:
            return None
        value = self.value * (100 if self.unit == "%" else 1)
        return value <= self.bar if self.at_most else value >= self.bar

    @property
    def figure(self) -> str:
        """The value and, behind it, the interval."""
        scale, digits = (100, 1) if self.unit == "%" else (1, 3)
        value, low, high = (f"{scale * v:.{digits}f}" for v in (self.value, self.low, self.high))
        return f"{value} {self.unit}" + ("" if low == high == value else f" ({low} to {high})")


def table(columns: Mapping[str, Sequence[Row]], first: str = "measure") -> str:
    """Columns of rows as markdown, a line for each measure with its bar and its cases."""
    rows: dict[str, dict[str, Row]] = {}
    for name, column in columns.items():
        for row in column:
            rows.setdefault(row.measure, {})[name] = row
    lines = [
        f"| {first} | bar | cases |" + "".join(f" {name} |" for name in columns),
        "|---|---|---:|" + "---:|" * len(columns),
    ]
    for measure, found in rows.items():
        goal = next(iter(found.values())).goal
        cases = ", ".join(dict.fromkeys(str(row.cases) for row in found.values()))
        cells = "".join(f" {found[name].figure if name in found else ''} |" for name in columns)
        lines.append(f"| {measure} | {goal} | {cases} |{cells}")
    return "\n".join(lines)


def share(measure: str, scores: Sequence[float], bar: float | None = None) -> Row:
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
    """A mean in nats with its normal 95 % interval."""
    middle = sum(values) / len(values)
    half = Z * math.sqrt(statistics.pvariance(values) / len(values))
    return Row(measure, middle, middle - half, middle + half, len(values), unit="nats")


def gain(measure: str, one: Row, other: Row, bar: float | None = None) -> Row:
    """By how much one share is above another.

    The interval is Newcombe's (Statistics in Medicine 1998, method 10) of two independent shares;
    where both are of the same cases, it is wider than it need be.
    """
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Row(measure, value, low, high, one.cases, bar)


def spent(measure: str, seconds: Sequence[float], bar: float) -> Row:
    """The median of some runs, between the shortest and the longest."""
    middle = statistics.median(seconds)
    low, high = min(seconds), max(seconds)
    return Row(measure, middle, low, high, len(seconds), bar, "s", at_most=True)


def edit_distance(one: str, other: str) -> int:
    """How many characters must be put in, taken out or replaced."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        last, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (left != right)))
    return row[-1]
