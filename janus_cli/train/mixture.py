"""In what proportion the kinds of lesson are mixed, and which kind comes when."""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass

from .lessons import KINDS


@dataclass(frozen=True)
class Mixture:
    """Parts of understanding : text : generation, as the papers write it."""

    understanding: int
    text: int
    generation: int

    @classmethod
    def parse(cls, text: str) -> Mixture:
        """`5:1:4` as a mixture; ValueError where it is none."""
        mixture = cls(*map(int, text.split(":", 2)))
        if min(astuple(mixture)) < 0 or not mixture.total:
            raise ValueError(text)
        return mixture

    @property
    def total(self) -> int:
        return sum(astuple(self))

    def kinds(self) -> list[str]:
        """The kinds that have a part in it."""
        return [kind for kind in KINDS if getattr(self, kind)]

    def only(self, kinds: list[str]) -> Mixture:
        """The same proportion of these kinds, without the others."""
        return Mixture(*(getattr(self, kind) if kind in kinds else 0 for kind in KINDS))

    def nth(self, index: int, seed: int) -> tuple[str, int]:
        """The kind of the lesson with this index, and how many of its kind come before it.

        Every `total` lessons hold each kind exactly as often as its part says, in an order that
        the seed shuffles, so the answer takes no knowledge of what came before.
        """
        cycle, place = divmod(index, self.total)
        order = [kind for kind in KINDS for _ in range(getattr(self, kind))]
        random.Random(f"mixture {seed} {cycle}").shuffle(order)
        kind = order[place]
        return kind, cycle * getattr(self, kind) + order[:place].count(kind)

    def __str__(self) -> str:
        return ":".join(map(str, astuple(self)))
