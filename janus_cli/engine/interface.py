"""What a task needs of an engine, whoever owns it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from .batch import Prompt, Said
    from .decode import Drawing, Sampling
    from .pixels import Preprocessing
    from .prompt import PromptWriter


class Engine(Protocol):
    """Our own networks, transformers', or one's share of an engine that many use."""

    name: str
    precision: str
    image_tokens: int
    """Codes of a picture."""
    writer: PromptWriter
    preprocessing: Preprocessing

    def write(self, prompts: Iterable[Prompt]) -> Iterator[Said]:
        """Answer prompts: numbers of prompts with tokens, None where an answer ends."""

    def draw(self, drawings: Sequence[Drawing], sampling: Sampling) -> Iterator[Tensor]:
        """Draw pictures: codes (pictures,) of one grid cell a step."""

    def paint(self, codes: Tensor) -> Tensor:
        """Codes (pictures, image tokens) to uint8 pictures (pictures, size, size, 3)."""

    def most_pictures(self) -> int:
        """How many pictures may be drawn at once."""
