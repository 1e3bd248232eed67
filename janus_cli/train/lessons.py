"""What there is to learn, in words and pixels. It knows neither tokens nor where a lesson is from.

A kind of lesson is one of the papers': understanding (a picture, and questions about it), text (no
picture), generation (a picture, and the caption to draw it from).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

KINDS = ("understanding", "text", "generation")


@dataclass(frozen=True)
class Lesson:
    """One picture or text, and what is learned from it."""

    name: str
    """Where it stands, as a complaint about it says."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Questions and their answers."""
    text: str | None = None
    """Words to go on with, where nobody asks."""
    caption: str | None = None
    """What the picture is drawn from."""
    picture: np.ndarray | None = None
    """(S, S, 3) uint8, S being the image size of the model; or what its encoders make of that, see
    pool.py.
    """
    learned: Sequence[int] | None = None
    """Where a picture is codes that are drawn: the places of those that are learned, of which 0 is
    the first. The others are left out, and the learned ones do not see them; None is all of them.
    """


class Source(Protocol):
    """Where lessons come from; it is sent to other processes, so it can be pickled."""

    def count(self, kind: str) -> int:
        """How many different lessons of a kind it has."""

    def lesson(self, kind: str, number: int) -> Lesson:
        """The lesson with a number from 0 on, the same at every call; numbers have no end.

        Raises:
            InputError: it cannot be read.
        """
